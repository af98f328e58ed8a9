//! Signal names and numbers as people and image configurations write them.

use nix::sys::signal::Signal;

/// First real-time signal as the C library counts (the kernel's 32 and 33 are its own).
const SIGRTMIN: i32 = 34;
/// Last real-time signal.
const SIGRTMAX: i32 = 64;

/// Parses `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `SIGRTMAX-1`.
pub fn parse_signal(text: &str) -> Result<i32, String> {
    let unknown = || format!("{text:?} is no signal");
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return if (1..=SIGRTMAX).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(SIGRTMIN, offset, '+').ok_or_else(unknown);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(SIGRTMAX, offset, '-').ok_or_else(unknown);
    }
    match name {
        "CLD" => return Ok(Signal::SIGCHLD as i32),
        "POLL" => return Ok(Signal::SIGIO as i32),
        _ => {}
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

/// `base` moved by an offset such as `+3`, where that is a real-time signal.
fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    let distance = match offset.strip_prefix(sign) {
        None if offset.is_empty() => 0,
        None => return None,
        Some(digits) => digits
            .parse::<i32>()
            .ok()
            .filter(|distance| *distance >= 0)?,
    };
    let number = if sign == '+' {
        base.checked_add(distance)?
    } else {
        base.checked_sub(distance)?
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal() {
        for text in [
            "", "0", "65", "-9", "SIG", "FOO", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMINx",
        ] {
            assert!(parse_signal(text).is_err(), "{text:?}");
        }
    }
}
