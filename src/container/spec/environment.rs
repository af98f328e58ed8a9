//! The environment of a container's processes.

/// Where programs are looked for when the image does not say (docker's).
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Terminal type where the container has one and nothing else is said (docker's).
const DEFAULT_TERM: &str = "TERM=xterm";
/// Bytes of an `--env-file` that are read: more than a process may be given (ARG_MAX).
pub const MAX_ENV_FILE_BYTES: u64 = 2 << 20;

/// Where values come from that neither image nor user sets.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The host name.
    pub hostname: &'a str,
    /// The home directory of the user.
    pub home: &'a str,
    /// Whether there is a terminal.
    pub terminal: bool,
}

/// The image's variables, replaced and extended by the user's, over the defaults.
pub fn assemble(image: &[String], user: &[String], surroundings: &Surroundings<'_>) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    set(
        &mut environment,
        &format!("HOSTNAME={}", surroundings.hostname),
    );
    if surroundings.terminal {
        set(&mut environment, DEFAULT_TERM);
    }
    for variable in image.iter().chain(user) {
        set(&mut environment, variable);
    }
    if !environment
        .iter()
        .any(|variable| variable.starts_with("HOME="))
    {
        environment.push(format!("HOME={}", surroundings.home));
    }
    environment
}

/// Sets one `KEY=VALUE`, in the place of an earlier one; a bare `KEY` is removed.
pub fn set(environment: &mut Vec<String>, variable: &str) {
    let key = |text: &str| text.split_once('=').map_or(text, |(key, _)| key).to_owned();
    let wanted = key(variable);
    let place = environment
        .iter()
        .position(|present| key(present) == wanted);
    match (place, variable.contains('=')) {
        (Some(place), true) => variable.clone_into(&mut environment[place]),
        (Some(place), false) => drop(environment.remove(place)),
        (None, true) => environment.push(variable.to_owned()),
        (None, false) => {}
    }
}

/// One `--env` value: `KEY=VALUE` as it is, `KEY` with the value that `lookup` finds, or
/// none where it finds nothing.
pub fn parse_variable(
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, _)) => (key, Some(text.to_owned())),
        None => (text, lookup(text).map(|value| format!("{text}={value}"))),
    };
    if key.is_empty() {
        return Err("the variable has no name".to_owned());
    }
    if text.contains('\0') {
        return Err("a variable cannot hold a zero byte".to_owned());
    }
    Ok(value)
}

/// The variables of an `--env-file`: one a line, `#` starts a comment line, values are
/// taken as they are (no quotes, no expansion).
pub fn parse_file(
    content: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let mut variables = Vec::new();
    for (number, line) in content.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at_line = |reason: String| format!("line {}: {reason}", number + 1);
        let key = line.split_once('=').map_or(line, |(key, _)| key);
        if key.contains(char::is_whitespace) {
            return Err(at_line(format!("the name {key:?} contains white space")));
        }
        variables.extend(parse_variable(line, &lookup).map_err(at_line)?);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    const PLAIN: Surroundings<'static> = Surroundings {
        hostname: "box",
        home: "/root",
        terminal: false,
    };

    #[test]
    fn defaults_and_replacement() {
        assert_eq!(
            assemble(&[], &[], &PLAIN),
            strings(&[DEFAULT_PATH, "HOSTNAME=box", "HOME=/root"])
        );
        let terminal = Surroundings {
            terminal: true,
            ..PLAIN
        };
        assert_eq!(
            assemble(
                &strings(&["PATH=/bin", "A=1", "HOME=/h"]),
                &strings(&["A=2=3"]),
                &terminal
            ),
            strings(&[
                "PATH=/bin",
                "HOSTNAME=box",
                "TERM=xterm",
                "A=2=3",
                "HOME=/h"
            ])
        );
    }

    #[test]
    fn names_take_their_value_from_the_callers_environment() {
        let lookup = |key: &str| (key == "SET").then(|| "here".to_owned());
        assert_eq!(
            parse_variable("A=b=c", lookup),
            Ok(Some("A=b=c".to_owned()))
        );
        assert_eq!(
            parse_variable("SET", lookup),
            Ok(Some("SET=here".to_owned()))
        );
        assert_eq!(parse_variable("UNSET", lookup), Ok(None));
        assert!(parse_variable("=b", lookup).is_err());
        assert!(parse_variable("", lookup).is_err());
    }

    #[test]
    fn files() {
        let lookup = |key: &str| (key == "SET").then(|| "here".to_owned());
        let content = "\u{feff}# comment\n\n A=1\nB=\"quoted # text\"\nSET\nUNSET\n";
        assert_eq!(
            parse_file(content, lookup),
            Ok(strings(&["A=1", "B=\"quoted # text\"", "SET=here"]))
        );
        assert!(
            parse_file("A=1\nB C=2\n", lookup)
                .unwrap_err()
                .starts_with("line 2:")
        );
    }
}
