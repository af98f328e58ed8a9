//! A registry with one image, and a node that has never seen it.

use std::process::Command;

use super::node::Node;
use super::registry::DockerRegistry;
use super::{Done, done};

/// A node and where it gets its image from.
pub struct Lab {
    /// The node; its root is empty at first.
    pub node: Node,
    /// The registry.
    pub registry: DockerRegistry,
    /// The image's reference.
    pub image: String,
}

impl Lab {
    /// The registry has the image with its indexes attached.
    pub fn new(image: &str) -> Self {
        let lab = Lab::unindexed(image);
        let publisher = Node::new();
        publisher.brisk(&["index", "push", &lab.image]);
        lab
    }

    /// The registry has the image and no index.
    pub fn unindexed(image: &str) -> Self {
        let registry = DockerRegistry::start();
        let image = registry.push(image, "tests/image");
        let node = Node::new();
        Lab {
            node,
            registry,
            image,
        }
    }

    /// Any verb of brisk.
    pub fn brisk(&self, words: &[&str]) -> Done {
        done(&self.node.command(words))
    }

    /// `brisk run` with these flags and this program; the container is removed at its end.
    pub fn run(&self, flags: &[&str], words: &[&str]) -> Done {
        done(&self.run_command(flags, words))
    }

    /// `brisk run --rm FLAGS IMAGE WORDS`, not yet started.
    pub fn run_command(&self, flags: &[&str], words: &[&str]) -> Command {
        self.node
            .command([&["run", "--rm"], flags, &[self.image.as_str()], words].concat())
    }

    /// What a script prints in a container; it must succeed.
    pub fn shell(&self, flags: &[&str], script: &str) -> String {
        let done = self.run(flags, &["sh", "-c", script]);
        assert_eq!(done.code, 0, "{flags:?} {script}: {done:?}");
        done.out
    }

    /// Starts a container in the background; gives its id.
    pub fn detached(&self, flags: &[&str], script: &str) -> String {
        let words = [
            &["run", "-d"],
            flags,
            &[self.image.as_str(), "sh", "-c", script],
        ]
        .concat();
        let done = self.brisk(&words);
        assert_eq!(done.code, 0, "{flags:?} {script}: {done:?}");
        done.out.trim().to_owned()
    }
}
