//! Which manifest of a multi-platform image runs here.
//!
//! The rules are those of the image index of the OCI image specification: operating system
//! and architecture must be equal; a variant may be an older one of the same family.

use std::fmt;
use std::str::FromStr;

/// A platform as users write it: `os/architecture[/variant]` or `architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Operating system, GOOS spelling.
    pub os: String,
    /// CPU architecture, GOARCH spelling.
    pub architecture: String,
    /// CPU variant (`v7`, `v8`), where one was named.
    pub variant: Option<String>,
}

/// The text does not name a platform.
#[derive(Debug, thiserror::Error)]
#[error("platform {text:?} is not of the form os/architecture[/variant], e.g. linux/amd64")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well a manifest for `os/architecture/variant` serves this platform: none if it cannot
    /// run, else lower is better.
    pub fn distance(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        if os != self.os || normal_architecture(architecture) != self.architecture {
            return None;
        }
        let wanted = self.rank(self.variant.as_deref())?;
        let offered = self.rank(variant)?;
        // A newer variant than ours may use instructions that this machine lacks.
        wanted.checked_sub(offered)
    }

    /// The place of a variant in its architecture's line, oldest first.
    fn rank(&self, variant: Option<&str>) -> Option<u32> {
        let digits = |text: &str| text.strip_prefix('v').and_then(|n| n.parse().ok());
        match (self.architecture.as_str(), variant) {
            ("arm64", None) => Some(8),
            ("arm", None) => Some(7),
            ("amd64", None) => Some(1),
            ("arm64" | "arm" | "amd64", Some(text)) => digits(text),
            (_, None | Some("")) => Some(0),
            (_, Some(text)) => (self.variant.as_deref() == Some(text)).then_some(0),
        }
    }
}

fn normal_architecture(text: &str) -> &str {
    match text {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        other => other,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError {
            text: text.to_owned(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |p: &&str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(is_word) {
            return Err(error());
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] if os == "linux" => (os, architecture, None),
            [architecture, variant] if variant.starts_with('v') => {
                ("linux", architecture, Some(variant))
            }
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(error()),
        };
        Ok(Platform {
            os: os.to_owned(),
            architecture: normal_architecture(architecture).to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_of_the_same_platform_are_equal() {
        assert_eq!(platform("amd64"), platform("linux/x86_64"));
        assert_eq!(platform("arm/v7"), platform("linux/arm/v7"));
        assert_eq!(platform("linux/arm64/v8").to_string(), "linux/arm64/v8");
    }

    #[test]
    fn what_is_not_a_platform_is_named_in_the_error() {
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "/amd64"] {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn an_arm_machine_takes_the_newest_variant_it_can_run() {
        let v7 = platform("linux/arm/v7");
        assert_eq!(v7.distance("linux", "arm", Some("v7")), Some(0));
        assert_eq!(v7.distance("linux", "arm", Some("v6")), Some(1));
        assert_eq!(v7.distance("linux", "arm", None), Some(0));
        assert_eq!(v7.distance("linux", "arm", Some("v8")), None);
        assert_eq!(v7.distance("linux", "arm64", Some("v8")), None);
    }

    #[test]
    fn a_newer_amd64_level_is_taken_only_when_asked_for() {
        assert_eq!(
            platform("amd64").distance("linux", "amd64", Some("v3")),
            None
        );
        assert_eq!(
            platform("amd64/v3").distance("linux", "amd64", None),
            Some(2)
        );
    }

    #[test]
    fn another_system_never_fits() {
        assert_eq!(platform("amd64").distance("windows", "amd64", None), None);
    }
}
