//! Signed indexes, and what is refused where a signature is asked for.

use std::path::Path;

use brisk_image::sign::{Signature, SigningKey, Statement};
use index_format::Digest;

use crate::support::node::Node;
use crate::support::registry::DockerRegistry;
use crate::support::small::{DECOY, SmallImage, VICTIM};
use crate::support::{done, text};
use crate::{all_are, digest_of};

/// A node that believes the key of a file for a repository.
fn believing(repository: &str, key: &Path) -> Node {
    let public = format!("{}.pub", key.display());
    Node::with_config(&format!("[trust.keys]\n'{repository}' = ['{public}']\n"))
}

fn name(reference: &str) -> &str {
    reference.rsplit_once(':').unwrap().0
}

#[test]
fn a_signed_index_is_believed_by_whoever_has_the_key() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "team/image");
    let publisher = Node::new();
    let key = publisher.path("key");
    let said = text(
        &publisher
            .brisk(&["key", "generate", key.to_str().unwrap()])
            .stdout,
    );
    let id = said.split(' ').next().unwrap().to_owned();
    let again = done(&publisher.command(["key", "generate", key.to_str().unwrap()]));
    assert!(again.code == 1 && again.err.contains("exists"), "{again:?}");
    // One that is not signed stands before it.
    publisher.brisk(&["index", "push", &image]);
    let words = ["index", "push", "--sign", key.to_str().unwrap(), &image];
    let said = text(&publisher.brisk(&words).stdout);
    assert!(said.starts_with("attached"), "{said}");
    let said = text(&publisher.brisk(&words).stdout);
    assert!(said.starts_with("already attached"), "{said}");

    let pinned = format!("{}@{}", name(&image), digest_of(&image));
    let host = registry.host();
    let node = believing(&format!("{host}/team"), &key);
    all_are(&node, &pinned, "referrer", "trusted");
    let directory = node.mount(&["--background", "off", &pinned], "mounted");
    assert!(directory.join("zoo/small").exists());
    let inspected = node.inspect(&pinned);
    assert_eq!(inspected["layers"][0]["index"]["signed_by"], id.as_str());
    // A key of another repository, another key, none.
    all_are(
        &believing(&format!("{host}/tea"), &key),
        &pinned,
        "none",
        "none",
    );
    let other = publisher.path("other");
    publisher.brisk(&["key", "generate", other.to_str().unwrap()]);
    all_are(
        &believing(&format!("{host}/team"), &other),
        &pinned,
        "none",
        "none",
    );
    all_are(&Node::new(), &pinned, "none", "none");
    // By tag it needs no key, and with one it is more than accepted.
    all_are(&Node::new(), &image, "referrer", "unclosed");
    all_are(
        &believing(&format!("{host}/team"), &key),
        &image,
        "referrer",
        "trusted",
    );
    // A bound image is signed anew, for its own digest.
    let words = [
        "index",
        "push",
        "--sign",
        key.to_str().unwrap(),
        "--bind=b",
        &image,
    ];
    publisher.brisk(&words);
}

#[test]
fn signatures_that_do_not_say_it_are_refused() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("signed");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let (key, _) = SigningKey::generate().unwrap();
    std::fs::write(directory.path().join("key.pub"), key.public().to_pem()).unwrap();
    let (stranger, _) = SigningKey::generate().unwrap();
    let forged = image.forged_index();
    let truth = image.statement(&forged);
    let other = Digest::of(b"another");
    let under_our_name = |statement: Statement, by: &SigningKey| Signature {
        key: key.public().id(),
        layer: image.layer_digest().to_string(),
        ..statement.sign(by)
    };
    let mut tampered = truth.sign(&key);
    let first = if tampered.signature.starts_with('A') {
        "B"
    } else {
        "A"
    };
    tampered.signature.replace_range(..1, first);
    let cases: [(&str, Vec<Signature>); 8] = [
        ("missing", Vec::new()),
        ("stranger", vec![truth.sign(&stranger)]),
        ("impostor", vec![under_our_name(truth, &stranger)]),
        ("tampered", vec![tampered]),
        (
            "image",
            vec![under_our_name(
                Statement {
                    image: other,
                    ..truth
                },
                &key,
            )],
        ),
        (
            "layer",
            vec![under_our_name(
                Statement {
                    layer: other,
                    ..truth
                },
                &key,
            )],
        ),
        (
            "diff-id",
            vec![under_our_name(
                Statement {
                    diff_id: other,
                    ..truth
                },
                &key,
            )],
        ),
        (
            "index",
            vec![under_our_name(
                Statement {
                    index: other,
                    ..truth
                },
                &key,
            )],
        ),
    ];
    let digest = image.manifest_digest();
    let host = registry.host();
    for (case, signatures) in cases {
        let reference = image.push(&registry, &format!("{case}/image"));
        image.attach_signed(&reference, &forged, &signatures);
        let pinned = format!("{}@{digest}", name(&reference));
        let node = believing(&host, &file);
        let inspected = node.inspect(&pinned);
        let layer = &inspected["layers"][0];
        assert_eq!(layer["lazy"], false, "{case}: {inspected:#}");
        let reason = layer["reason"].as_str().unwrap();
        for word in ["policy strict", "signed", "trust.keys"] {
            assert!(reason.contains(word), "{case}: {reason}");
        }
        let mounted = node.mount(&["--background", "off", &pinned], "mounted");
        assert_eq!(
            std::fs::read(mounted.join(VICTIM.0)).unwrap(),
            VICTIM.1,
            "{case}"
        );
    }
    // The test would see it: signed by the believed key, even what lies is started from.
    let reference = image.push(&registry, "signed/image");
    image.attach_signed(&reference, &forged, &[truth.sign(&key)]);
    let node = believing(&host, &file);
    let pinned = format!("{}@{digest}", name(&reference));
    let mounted = node.mount(&["--background", "off", &pinned], "mounted");
    assert_eq!(std::fs::read(mounted.join(VICTIM.0)).unwrap(), DECOY.1);
}

#[test]
fn keys_that_are_none_are_named() {
    let node = Node::new();
    let file = node.path("nokey");
    std::fs::write(&file, "text").unwrap();
    let path = file.to_str().unwrap();
    let failed = done(&node.command(["index", "push", "--sign", path, "oci:/x"]));
    assert_eq!(failed.code, 1, "{failed:?}");
    for word in [path, "private key", "hint:"] {
        assert!(failed.err.contains(word), "{word}: {failed:?}");
    }
    let node = Node::with_config(&format!("[trust.keys]\n'r/x' = ['{path}']\n"));
    let failed = done(&node.command(["images"]));
    assert_eq!(failed.code, 1, "{failed:?}");
    for word in [path, "public key", "trust.keys"] {
        assert!(failed.err.contains(word), "{word}: {failed:?}");
    }
}
