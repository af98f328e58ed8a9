use super::*;
use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};
use oci_spec::runtime::LinuxNamespaceType;

struct Fixture {
    tree: tempfile::TempDir,
    directory: tempfile::TempDir,
    id: ContainerId,
}

impl Fixture {
    fn new() -> Fixture {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        std::fs::write(
            tree.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n",
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        Fixture {
            tree,
            directory,
            id: ContainerId::random().unwrap(),
        }
    }

    fn generate(&self, config: ConfigBuilder, options: &RunOptions) -> Generated {
        self.try_generate(config, options).unwrap()
    }

    fn try_generate(
        &self,
        config: ConfigBuilder,
        options: &RunOptions,
    ) -> Result<Generated, ContainerError> {
        let image = ImageConfigurationBuilder::default()
            .config(config.build().unwrap())
            .build()
            .unwrap();
        generate(&SpecInput {
            options,
            image: &image,
            id: &self.id,
            directory: self.directory.path(),
            rootfs: self.tree.path(),
        })
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn config() -> ConfigBuilder {
    ConfigBuilder::default().cmd(strings(&["sh"]))
}

#[test]
fn defaults_are_dockers() {
    let fixture = Fixture::new();
    let generated = fixture.generate(config(), &RunOptions::default());
    assert_eq!(generated.stop_signal, 15);
    assert_eq!(generated.command, ["sh"]);
    let spec = &generated.spec;
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(false));
    assert_eq!(process.cwd(), Path::new("/"));
    assert!(
        process
            .env()
            .as_ref()
            .unwrap()
            .contains(&"HOME=/root".to_owned())
    );
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(false));
    let linux = spec.linux().as_ref().unwrap();
    let kinds: Vec<_> = linux
        .namespaces()
        .as_ref()
        .unwrap()
        .iter()
        .map(|namespace| namespace.typ())
        .collect();
    assert!(kinds.contains(&LinuxNamespaceType::Pid));
    assert!(!kinds.contains(&LinuxNamespaceType::Network));
    assert!(!kinds.contains(&LinuxNamespaceType::User));
    assert!(linux.seccomp().is_some());
    assert_eq!(
        linux.masked_paths().as_ref().unwrap().len(),
        mounts::MASKED_PATHS.len()
    );
}

#[test]
fn the_image_configures_what_the_user_does_not() {
    let fixture = Fixture::new();
    let image = config()
        .user("web")
        .working_dir("srv/app")
        .stop_signal("SIGQUIT")
        .env(strings(&["A=image", "B=image"]));
    let options = RunOptions {
        environment: strings(&["A=user"]),
        ..RunOptions::default()
    };
    let generated = fixture.generate(image, &options);
    assert_eq!(generated.stop_signal, 3);
    let process = generated.spec.process().clone().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (33, 34));
    assert_eq!(process.cwd(), Path::new("/srv/app"));
    assert!(fixture.tree.path().join("srv/app").is_dir());
    let environment = process.env().clone().unwrap();
    for variable in ["A=user", "B=image", "HOME=/var/www"] {
        assert!(environment.contains(&variable.to_owned()), "{variable}");
    }
}

#[test]
fn network_none_has_its_own_namespace_and_name() {
    let fixture = Fixture::new();
    let options = RunOptions {
        network: Network::None,
        ..RunOptions::default()
    };
    let spec = fixture.generate(config(), &options).spec;
    assert_eq!(spec.hostname().as_deref(), Some(fixture.id.short()));
    let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    assert!(
        namespaces
            .iter()
            .any(|namespace| namespace.typ() == LinuxNamespaceType::Network)
    );
}

#[test]
fn privileged_has_no_walls() {
    let fixture = Fixture::new();
    let options = RunOptions {
        privileged: true,
        ..RunOptions::default()
    };
    let spec = fixture.generate(config(), &options).spec;
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_none());
    assert!(linux.masked_paths().as_ref().unwrap().is_empty());
    assert!(!linux.devices().as_ref().unwrap().is_empty());
}

#[test]
fn what_cannot_be_is_named() {
    let fixture = Fixture::new();
    let empty = ConfigBuilder::default();
    let error = fixture
        .try_generate(empty, &RunOptions::default())
        .unwrap_err();
    assert!(matches!(error, ContainerError::NoCommand(_)), "{error}");
    let error = fixture
        .try_generate(config().stop_signal("SIGNONE"), &RunOptions::default())
        .unwrap_err();
    assert!(matches!(error, ContainerError::ImageConfig(_)), "{error}");
    for options in [
        RunOptions {
            user: Some("nobody".to_owned()),
            ..RunOptions::default()
        },
        RunOptions {
            hostname: Some("a b".to_owned()),
            ..RunOptions::default()
        },
        RunOptions {
            working_directory: Some("relative".to_owned()),
            ..RunOptions::default()
        },
        RunOptions {
            working_directory: Some("/etc/passwd/x".to_owned()),
            ..RunOptions::default()
        },
    ] {
        assert!(
            fixture.try_generate(config(), &options).is_err(),
            "{options:?}"
        );
    }
}

#[test]
fn further_processes_take_after_the_first() {
    let fixture = Fixture::new();
    let spec = fixture
        .generate(config().env(strings(&["A=1"])), &RunOptions::default())
        .spec;
    let options = ExecOptions {
        command: strings(&["id"]),
        environment: strings(&["A=2"]),
        user: Some("web".to_owned()),
        working_directory: Some("/tmp".to_owned()),
        ..ExecOptions::default()
    };
    let process = exec_process(&spec, fixture.tree.path(), &options).unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["id"]);
    assert_eq!(process.user().uid(), 33);
    assert_eq!(process.cwd(), Path::new("/tmp"));
    assert!(process.env().as_ref().unwrap().contains(&"A=2".to_owned()));
    let sets = process.capabilities().as_ref().unwrap();
    assert!(sets.effective().as_ref().unwrap().is_empty());
    assert!(!sets.bounding().as_ref().unwrap().is_empty());
}
