use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parsed(input: &str) -> Reference {
    input.parse().unwrap()
}

fn problem(input: &str) -> ReferenceProblem {
    let error = input.parse::<Reference>().unwrap_err();
    assert!(error.to_string().contains(&format!("{input:?}")), "{error}");
    error.problem
}

#[test]
fn names_are_normalised_as_docker_does() {
    let digest = format!("@sha256:{HEX}");
    let cases = [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("user/app:v1", "docker.io/user/app:v1"),
        ("a/b/c", "docker.io/a/b/c:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("ghcr.io/o/app", "ghcr.io/o/app:latest"),
        ("ghcr.io/app", "ghcr.io/app:latest"),
        ("registry:5000/x", "registry:5000/x:latest"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y"),
        ("[::1]/x", "[::1]/x:latest"),
        ("MyHost/x", "MyHost/x:latest"),
        (
            "127.0.0.1:80/a_b/c__d/e-f---g.h",
            "127.0.0.1:80/a_b/c__d/e-f---g.h:latest",
        ),
    ];
    for (input, shown) in cases {
        assert_eq!(parsed(input).to_string(), shown, "{input}");
        let pinned = format!("{input}{digest}");
        let expected = match input.rsplit_once(':') {
            Some((_, tag)) if !tag.contains('/') => format!("{shown}{digest}"),
            _ => format!("{}{digest}", shown.trim_end_matches(":latest")),
        };
        assert_eq!(parsed(&pinned).to_string(), expected, "{pinned}");
    }
}

#[test]
fn a_digest_decides_over_the_tag_and_is_the_users() {
    let reference = parsed(&format!("alpine:3.20@sha256:{HEX}"));
    let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
    assert_eq!(reference.tag(), Some("3.20"));
    assert_eq!(reference.target(), ManifestTarget::Digest(digest));
    assert!(reference.has_user_digest());

    let resolved = parsed("alpine").resolved(digest);
    assert_eq!(resolved.target(), ManifestTarget::Digest(digest));
    assert!(!resolved.has_user_digest());
    assert_eq!(
        parsed("alpine").target(),
        ManifestTarget::Tag("latest".to_owned())
    );
}

#[test]
fn problems_are_named_with_a_remedy() {
    use ReferenceProblem as P;
    assert_eq!(problem(""), P::Empty);
    assert_eq!(problem(":tag"), P::Empty);
    assert_eq!(problem("ghcr.io/"), P::Empty);
    assert_eq!(
        problem("https://ghcr.io/a"),
        P::Scheme("https://".to_owned())
    );
    assert_eq!(problem("Alpine"), P::UpperCase("alpine".to_owned()));
    assert_eq!(
        problem("ghcr.io/Org/app"),
        P::UpperCase("org/app".to_owned())
    );
    assert_eq!(problem("a//b"), P::Component(String::new()));
    assert_eq!(problem("a/../b"), P::Component("..".to_owned()));
    assert_eq!(problem("a..b"), P::Component("a..b".to_owned()));
    assert_eq!(problem("a___b"), P::Component("a___b".to_owned()));
    assert_eq!(problem("a b"), P::Component("a b".to_owned()));
    assert_eq!(problem("alpine:"), P::Tag(String::new()));
    assert_eq!(problem("alpine:-x"), P::Tag("-x".to_owned()));
    assert_eq!(
        problem(&format!("alpine:{}", "x".repeat(129))),
        P::Tag("x".repeat(129))
    );
    assert_eq!(problem(HEX), P::ImageId(HEX.to_owned()));
    assert_eq!(
        problem("alpine@sha256:12"),
        P::Digest("sha256:12".to_owned())
    );
    assert_eq!(problem("alpine@latest"), P::Digest("latest".to_owned()));
    let upper = format!("sha256:{}", HEX.to_uppercase());
    assert_eq!(problem(&format!("alpine@{upper}")), P::Digest(upper));
    assert_eq!(
        problem(&format!("a@sha512:{HEX}{HEX}")),
        P::Algorithm("sha512".to_owned())
    );
    assert_eq!(problem("host:0/x"), P::Host("host:0".to_owned()));
    assert_eq!(problem("host:+80/x"), P::Host("host:+80".to_owned()));
    assert_eq!(problem("host:99999/x"), P::Host("host:99999".to_owned()));
    assert_eq!(problem("-a.b/x"), P::Host("-a.b".to_owned()));
    assert_eq!(problem("a..b/x"), P::Host("a..b".to_owned()));
    assert_eq!(problem("[::g]:1/x"), P::Host("[::g]:1".to_owned()));
    let long = format!("ghcr.io/{}", "x".repeat(248));
    assert_eq!(problem(&long), P::TooLong(256));
    assert!(long[..255].parse::<Reference>().is_ok());
}

proptest! {
    #[test]
    fn parsing_never_panics_and_display_parses_back(
        input in "[a-zA-Z0-9._:/@\\[\\]-]{0,40}|\\PC{0,20}"
    ) {
        if let Ok(reference) = input.parse::<Reference>() {
            let shown = reference.to_string();
            let again: Reference = shown.parse().unwrap();
            prop_assert_eq!(&again, &reference);
            prop_assert!(!reference.repository().name().contains(".."));
        }
    }

    #[test]
    fn valid_parts_make_a_reference(
        host in "([a-z0-9]{1,8}\\.[a-z]{2,3})(:[1-9][0-9]{0,3})?",
        path in "[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}){0,2}",
        tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
    ) {
        let reference = parsed(&format!("{host}/{path}:{tag}"));
        prop_assert_eq!(reference.repository().host(), host);
        prop_assert_eq!(reference.repository().name(), path);
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
    }
}
