//! `brisk tags` and `brisk delete`.

use crate::support::node::Node;
use crate::support::registry::DockerRegistry;
use crate::support::{done, text};
use crate::{all_are, digest_of};

#[test]
fn tags_are_listed_and_manifests_deleted() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let node = Node::new();
    let second = image.replace(":latest", ":v2");
    node.brisk(&["copy", &image, &second]);
    let name = image.trim_end_matches(":latest");
    assert_eq!(text(&node.brisk(&["tags", name]).stdout), "latest\nv2\n");
    node.brisk(&["index", "push", &image]);
    all_are(&Node::new(), &second, "referrer", "unclosed");

    let digest = digest_of(&image);
    for (words, said) in [
        (
            &["delete", name][..],
            &["neither a tag nor a digest", "hint:"][..],
        ),
        // Debian's registry deletes no tags; the hint says what it would take.
        (&["delete", &second], &["hint:", "@sha256:", &digest]),
        (&["tags", "oci:/x"], &["not in a registry"]),
    ] {
        let failed = done(&node.command(words));
        assert_eq!(failed.code, 1, "{failed:?}");
        for word in said {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
    }
    let pinned = format!("{name}@{digest}");
    let said = text(&node.brisk(&["delete", "--referrers", &pinned]).stdout);
    assert!(said.contains(&pinned), "{said}");
    let gone = done(&Node::new().command(["inspect", &image]));
    assert!(gone.err.contains("404"), "{gone:?}");
    // What was attached went as well: the same image pushed again has nothing.
    registry.push("zoo", "tests/image");
    all_are(&Node::new(), &image, "none", "none");
}
