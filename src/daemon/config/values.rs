//! The values of the configuration that TOML has no form for: sizes, times, outages.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::daemon::config::{OnOutage, OrphanTimeout};

/// A number of bytes: `1073741824`, `"500MB"`, `"20GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not a size such as 500MB or 20GiB");
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let unit = match text[digits..].trim() {
            "" | "B" => 1,
            "k" | "kB" | "K" | "KB" => 1000,
            "M" | "MB" => 1000 * 1000,
            "G" | "GB" => 1000 * 1000 * 1000,
            "T" | "TB" => 1000u64.pow(4),
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            _ => return Err(error()),
        };
        number.checked_mul(unit).map(ByteSize).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size such as \"20GiB\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                u64::try_from(value)
                    .map(ByteSize)
                    .map_err(|_| E::custom(format!("size {value} is negative")))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<ByteSize, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for OnOutage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Table { wait: String },
        }
        let error = |text: &str| {
            de::Error::custom(format!(
                "on_outage {text:?} is neither \"eio\" nor {{ wait = \"5m\" }} nor \
                 {{ wait = \"forever\" }}"
            ))
        };
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == "eio" => Ok(OnOutage::Eio),
            Form::Word(word) => Err(error(&word)),
            Form::Table { wait } if wait == "forever" => Ok(OnOutage::Forever),
            Form::Table { wait } => parse_duration(&wait)
                .map(OnOutage::Wait)
                .ok_or_else(|| error(&wait)),
        }
    }
}

impl<'de> Deserialize<'de> for OrphanTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "off" => Ok(OrphanTimeout::Off),
            text => parse_duration(text)
                .map(OrphanTimeout::After)
                .ok_or_else(|| {
                    de::Error::custom(format!(
                        "orphan_timeout {text:?} is neither \"off\" nor a time such as \"10m\""
                    ))
                }),
        }
    }
}

/// Seconds, minutes or hours: `30s`, `5m`, `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(seconds)
        .map(Duration::from_secs)
}
