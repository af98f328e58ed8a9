//! A server in this process or in one of its own, and a client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use brisk_snapshotter::Snapshotter;
use brisk_snapshotter::socket::Socket;
use brisk_snapshotter::wire::services::snapshots::v1 as api;
use brisk_snapshotter::wire::services::snapshots::v1::snapshots_client::SnapshotsClient;
use brisk_snapshotter::wire::types::Mount;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Root of the server that [`serve_for_a_parent`] is; without it, it is nothing.
const ROOT: &str = "BRISK_SNAPSHOTTER_TEST_ROOT";
/// Its socket.
const SOCKET: &str = "BRISK_SNAPSHOTTER_TEST_SOCKET";
/// No server needs as long to start.
const START_LIMIT: Duration = Duration::from_secs(60);

pub type Answer<T> = Result<T, Status>;

/// Not a test: the server's process of [`ServerProcess`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_for_a_parent() {
    let (Some(root), Some(socket)) = (std::env::var_os(ROOT), std::env::var_os(SOCKET)) else {
        return;
    };
    let snapshotter = Arc::new(Snapshotter::open(Path::new(&root), None).unwrap());
    let socket = Socket::bind(Path::new(&socket)).unwrap();
    socket
        .serve(snapshotter, std::future::pending())
        .await
        .unwrap();
}

/// A server in a process of its own, which is killed when it is dropped.
pub struct ServerProcess {
    child: Child,
    socket: PathBuf,
}

impl ServerProcess {
    pub fn start(root: &Path, socket: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "harness::serve_for_a_parent", "--nocapture"])
            .env(ROOT, root)
            .env(SOCKET, socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        ServerProcess {
            child,
            socket: socket.to_path_buf(),
        }
    }

    pub async fn client(&mut self) -> Client {
        let started = Instant::now();
        while UnixStream::connect(&self.socket).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the server ended");
            assert!(started.elapsed() < START_LIMIT, "no server appeared");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Client::connect(&self.socket).await
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in this process.
pub struct Server {
    pub client: Client,
    pub root: PathBuf,
    pub socket: PathBuf,
    _place: tempfile::TempDir,
}

pub async fn server() -> Server {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let socket = place.path().join("run/s.sock");
    let snapshotter = Arc::new(Snapshotter::open(&root, None).unwrap());
    let bound = Socket::bind(&socket).unwrap();
    tokio::spawn(bound.serve(snapshotter, std::future::pending()));
    Server {
        client: Client::connect(&socket).await,
        root,
        socket,
        _place: place,
    }
}

#[derive(Clone)]
pub struct Client(pub SnapshotsClient<Channel>);

impl Client {
    pub async fn connect(socket: &Path) -> Self {
        let socket = socket.to_path_buf();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://snapshotter")
            .connect_with_connector(connect)
            .await
            .unwrap();
        Client(SnapshotsClient::new(channel))
    }

    pub async fn prepare(&mut self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        self.prepare_labelled(key, parent, &[]).await
    }

    pub async fn prepare_labelled(
        &mut self,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Answer<Vec<Mount>> {
        let request = api::PrepareSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: map(labels),
            ..Default::default()
        };
        Ok(self.0.prepare(request).await?.into_inner().mounts)
    }

    pub async fn view(&mut self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        let request = api::ViewSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        Ok(self.0.view(request).await?.into_inner().mounts)
    }

    pub async fn mounts(&mut self, key: &str) -> Answer<Vec<Mount>> {
        let request = api::MountsRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        Ok(self.0.mounts(request).await?.into_inner().mounts)
    }

    pub async fn commit(&mut self, name: &str, key: &str) -> Answer<()> {
        self.commit_with(name, key, "", &[]).await
    }

    pub async fn commit_with(
        &mut self,
        name: &str,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Answer<()> {
        let request = api::CommitSnapshotRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: map(labels),
            ..Default::default()
        };
        self.0.commit(request).await.map(drop)
    }

    pub async fn remove(&mut self, key: &str) -> Answer<()> {
        let request = api::RemoveSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        self.0.remove(request).await.map(drop)
    }

    pub async fn stat(&mut self, key: &str) -> Answer<api::Info> {
        let request = api::StatSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        Ok(self.0.stat(request).await?.into_inner().info.unwrap())
    }

    pub async fn update(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        mask: Option<&[&str]>,
    ) -> Answer<api::Info> {
        let request = api::UpdateSnapshotRequest {
            info: Some(api::Info {
                name: name.to_owned(),
                parent: "somebody else".to_owned(),
                labels: map(labels),
                ..Default::default()
            }),
            update_mask: mask.map(|paths| prost_types::FieldMask {
                paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            }),
            ..Default::default()
        };
        Ok(self.0.update(request).await?.into_inner().info.unwrap())
    }

    pub async fn list(&mut self, filters: &[&str]) -> Answer<Vec<api::Info>> {
        let request = api::ListSnapshotsRequest {
            filters: filters.iter().map(|f| (*f).to_owned()).collect(),
            ..Default::default()
        };
        let mut answers = self.0.list(request).await?.into_inner();
        let mut found = Vec::new();
        while let Some(answer) = answers.message().await? {
            found.extend(answer.info);
        }
        Ok(found)
    }

    pub async fn usage(&mut self, key: &str) -> Answer<api::UsageResponse> {
        let request = api::UsageRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        Ok(self.0.usage(request).await?.into_inner())
    }

    pub async fn cleanup(&mut self) -> Answer<()> {
        let request = api::CleanupRequest::default();
        self.0.cleanup(request).await.map(drop)
    }
}

pub fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// The code of an answer; [`Code::Ok`] of a good one.
pub fn code<T>(answer: Answer<T>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// The names in `directory`, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
