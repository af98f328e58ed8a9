//! Which program runs: Entrypoint, Cmd, `--entrypoint` and the command line together.

/// The arguments of the container's first process, or none where nothing is named.
///
/// As docker combines them: `--entrypoint` replaces the image's Entrypoint and drops its
/// Cmd (an empty one clears the Entrypoint); arguments after the image replace Cmd.
pub fn combine(
    image_entrypoint: &[String],
    image_command: &[String],
    entrypoint: Option<&str>,
    command: &[String],
) -> Option<Vec<String>> {
    let (first, fallback): (Vec<String>, &[String]) = match entrypoint {
        Some("") => (Vec::new(), &[]),
        Some(program) => (vec![program.to_owned()], &[]),
        None => (image_entrypoint.to_vec(), image_command),
    };
    let rest = if command.is_empty() {
        fallback
    } else {
        command
    };
    let arguments: Vec<String> = first.into_iter().chain(rest.iter().cloned()).collect();
    (!arguments.is_empty()).then_some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// (image Entrypoint, image Cmd, --entrypoint, arguments) to what runs: the table of
    /// the Dockerfile reference, and docker run's for the flag.
    #[test]
    fn as_docker_combines_them() {
        let cases = [
            ("", "", None, "", ""),
            ("", "sh -l", None, "", "sh -l"),
            ("", "sh -l", None, "ls /", "ls /"),
            ("entry -x", "", None, "", "entry -x"),
            ("entry -x", "cmd y", None, "", "entry -x cmd y"),
            ("entry -x", "cmd y", None, "z", "entry -x z"),
            ("entry -x", "cmd y", Some("other"), "", "other"),
            ("entry -x", "cmd y", Some("other"), "z", "other z"),
            ("entry -x", "cmd y", Some(""), "z", "z"),
            ("entry -x", "cmd y", Some(""), "", ""),
        ];
        for (image_entrypoint, image_command, entrypoint, command, expected) in cases {
            let combined = combine(
                &words(image_entrypoint),
                &words(image_command),
                entrypoint,
                &words(command),
            );
            assert_eq!(
                combined.unwrap_or_default(),
                words(expected),
                "{image_entrypoint:?} {image_command:?} {entrypoint:?} {command:?}"
            );
        }
    }

    #[test]
    fn a_program_name_with_spaces_stays_one_argument() {
        assert_eq!(
            combine(&[], &[], Some("a b"), &[]),
            Some(vec!["a b".to_owned()])
        );
    }
}
