//! containerd's hosts.toml in the whole product: TLS with certificates of one's own, mirrors.

use std::fs;
use std::path::Path;

use crate::support::done;
use crate::support::node::Node;
use crate::support::registry::DockerRegistry;

const IMAGE: &str = "registry.test/tests/image:latest";

/// A node that finds the servers of registry.test in such a file.
fn node(text: &str) -> Node {
    let mut node = Node::new();
    let hosts = node.directory("certs.d");
    fs::create_dir(hosts.join("registry.test")).unwrap();
    fs::write(hosts.join("registry.test/hosts.toml"), text).unwrap();
    node.configure(&format!(
        "[registry]\nhosts_dirs = ['{}']\n",
        hosts.display()
    ));
    node
}

fn runs(node: &Node) {
    let done = done(&node.command(["run", "--rm", IMAGE, "echo", "well"]));
    assert_eq!((done.code, done.out.as_str()), (0, "well\n"), "{done:?}");
}

fn fails(node: &Node, words: &[&str]) {
    let failed = done(&node.command(["run", "--rm", IMAGE, "echo", "well"]));
    assert_eq!(failed.code, 125, "{failed:?}");
    for word in words {
        assert!(failed.err.contains(word), "{word}: {failed:?}");
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_mirror_with_certificates_of_its_own_serves_an_image() {
    let (registry, certificates) = DockerRegistry::start_mutual(&["127.0.0.1"]);
    registry.push_as(
        "zoo",
        "tests/image",
        &["--dest-cert-dir", &shown(&certificates)],
    );
    let mirror = format!(
        "server = 'https://127.0.0.1:1'\n[host.'https://{}']\n",
        registry.host()
    );
    let file = |name: &str| shown(&certificates.join(name));
    let client = format!(
        "client = [['{}', '{}']]\n",
        file("client.cert"),
        file("client.key")
    );
    let ca = format!("ca = '{}'\n", file("ca.crt"));
    runs(&node(&format!("{mirror}{ca}{client}")));
    runs(&node(&format!("{mirror}skip_verify = true\n{client}")));
    // Without either half nobody is believed; the last server that was asked is named.
    fails(&node(&format!("{mirror}{client}")), &["127.0.0.1:1"]);
    fails(&node(&format!("{mirror}{ca}")), &["127.0.0.1:1"]);
    fails(
        &node(&format!("{mirror}ca = 'missing.pem'\n")),
        &["127.0.0.1:1"],
    );
    fails(
        &node("[host.'https://a']\ncapabilities = 'pull'\n"),
        &["hosts.toml", "https://a"],
    );
}
