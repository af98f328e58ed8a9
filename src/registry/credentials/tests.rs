use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::reference::Reference;

fn repository(reference: &str) -> Repository {
    reference.parse::<Reference>().unwrap().repository().clone()
}

fn config_dir(json: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), json).unwrap();
    dir
}

async fn look_up(json: &str, reference: &str) -> Result<Credential, String> {
    let dir = config_dir(json);
    let source = CredentialSource::DockerConfig(dir.path().to_owned());
    source.look_up(&repository(reference)).await
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

#[tokio::test]
async fn auths_are_found_under_every_usual_name() {
    let auth = STANDARD.encode("me:pa:ss");
    let cases = [
        ("https://index.docker.io/v1/", "alpine"),
        ("docker.io", "alpine"),
        ("ghcr.io", "ghcr.io/a/b"),
        ("https://ghcr.io", "ghcr.io/a/b"),
        ("localhost:5000", "localhost:5000/x"),
    ];
    for (key, reference) in cases {
        let json = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(
            look_up(&json, reference).await,
            Ok(basic("me", "pa:ss")),
            "{key}"
        );
        assert!(look_up(&json, "other.example/x").await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn an_identity_token_is_told_from_a_password() {
    let json = r#"{"auths":{"r.example":{"auth":"dTpw","identitytoken":"refresh"}}}"#;
    let found = look_up(json, "r.example/x").await;
    assert_eq!(found, Ok(Credential::IdentityToken("refresh".to_owned())));
}

#[tokio::test]
async fn failures_are_words_without_secrets() {
    let missing = CredentialSource::DockerConfig(PathBuf::from("/nonexistent"));
    let words = missing.look_up(&repository("alpine")).await.unwrap_err();
    assert!(words.contains("/nonexistent/config.json"), "{words}");
    let words = look_up("{", "alpine").await.unwrap_err();
    assert!(words.contains("not readable"), "{words}");
    let secret = "s3cr3t!!";
    let json = format!(r#"{{"auths":{{"r.example":{{"auth":"{secret}"}}}}}}"#);
    let words = look_up(&json, "r.example/x").await.unwrap_err();
    assert!(
        words.contains("base64") && !words.contains(secret),
        "{words}"
    );
    let logged_out = format!(
        r#"{{"auths":{{"r.example":{{"auth":"{}"}}}}}}"#,
        STANDARD.encode(":")
    );
    assert!(look_up(&logged_out, "r.example/x").await.is_err());
}

#[tokio::test]
async fn given_credentials_are_for_their_host_only() {
    let credential = Credential::RegistryToken("t".to_owned());
    let source = CredentialSource::Given {
        host: "docker.io".to_owned(),
        credential: credential.clone(),
    };
    assert_eq!(source.look_up(&repository("alpine")).await, Ok(credential));
    assert!(source.look_up(&repository("ghcr.io/alpine")).await.is_err());
}

#[test]
fn debug_shows_no_secret() {
    for credential in [
        basic("user-name", "hunter2"),
        Credential::IdentityToken("hunter2".to_owned()),
        Credential::RegistryToken("hunter2".to_owned()),
    ] {
        let source = CredentialSource::Given {
            host: "h".to_owned(),
            credential,
        };
        let shown = format!("{source:?} {source}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("user-name"),
            "{shown}"
        );
    }
}

/// A helper is found on PATH, which a test must not change for the whole process; so the
/// test runs itself again with another PATH.
#[test]
fn credential_helpers_are_asked_by_registry() {
    const INNER: &str = "BRISK_TEST_CREDENTIAL_HELPER";
    if let Some(dir) = std::env::var_os(INNER) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let source = CredentialSource::DockerConfig(PathBuf::from(dir));
        let found = |reference| runtime.block_on(source.look_up(&repository(reference)));
        assert_eq!(found("one.example/x"), Ok(basic("helper", "one.example")));
        let token = Credential::IdentityToken("https://index.docker.io/v1/".to_owned());
        assert_eq!(found("alpine"), Ok(token));
        let words = found("three.example/x").unwrap_err();
        assert!(words.contains("docker-credential-fails"), "{words}");
        assert!(!words.contains("leak"), "{words}");
        return;
    }
    let dir = config_dir(
        r#"{"credHelpers":{"one.example":"works","three.example":"fails"},"credsStore":"token"}"#,
    );
    let helper = |name: &str, script: &str| {
        let file = dir.path().join(format!("docker-credential-{name}"));
        std::fs::write(&file, format!("#!/bin/sh\nread host\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper(
        "works",
        r#"echo "{\"Username\":\"helper\",\"Secret\":\"$host\"}""#,
    );
    helper(
        "token",
        r#"echo "{\"Username\":\"<token>\",\"Secret\":\"$host\"}""#,
    );
    helper("fails", "echo leak; exit 1");
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let test = "credentials::tests::credential_helpers_are_asked_by_registry";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact"])
        .env("PATH", path)
        .env(INNER, dir.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && shown.contains("1 passed"),
        "{shown}"
    );
}
