//! A client of the Container Runtime Interface, version 1: what a kubelet asks of containerd, for
//! tests and comparisons. Every call blocks.

use std::path::Path;
use std::time::Duration;

use runtime::v1::image_service_client::ImageServiceClient;
use runtime::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint};
pub use tonic::{Code, Status};

/// The interface's messages, as Kubernetes names them.
pub mod runtime {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::doc_markdown,
        reason = "generated from the wire form"
    )]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}

pub use runtime::v1 as wire;

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection to a server of the interface.
pub struct Client {
    reactor: tokio::runtime::Runtime,
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// One call of the service for pods and containers.
macro_rules! call {
    ($self:ident, $service:ident, $call:ident, $request:expr) => {
        $self
            .reactor
            .block_on($self.$service.$call($request))
            .map(tonic::Response::into_inner)
    };
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// Where nothing listens there.
    pub fn connect(socket: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let reactor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let address = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(address)?.timeout(LIMIT);
        let channel = reactor.block_on(endpoint.connect())?;
        Ok(Client {
            reactor,
            pods: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        })
    }

    /// Runs a pod's sandbox by a runtime handler; its ID.
    ///
    /// # Errors
    /// The server's, as with every call.
    pub fn run_pod(
        &mut self,
        config: &wire::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, Status> {
        let request = wire::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        Ok(call!(self, pods, run_pod_sandbox, request)?.pod_sandbox_id)
    }

    /// Stops a pod's sandbox and what runs in it.
    ///
    /// # Errors
    /// The server's.
    pub fn stop_pod(&mut self, pod: &str) -> Result<(), Status> {
        let pod_sandbox_id = pod.to_owned();
        let request = wire::StopPodSandboxRequest { pod_sandbox_id };
        call!(self, pods, stop_pod_sandbox, request).map(drop)
    }

    /// Removes a pod's sandbox and the containers in it.
    ///
    /// # Errors
    /// The server's.
    pub fn remove_pod(&mut self, pod: &str) -> Result<(), Status> {
        let pod_sandbox_id = pod.to_owned();
        let request = wire::RemovePodSandboxRequest { pod_sandbox_id };
        call!(self, pods, remove_pod_sandbox, request).map(drop)
    }

    /// A pod's status.
    ///
    /// # Errors
    /// The server's.
    pub fn pod_status(&mut self, pod: &str) -> Result<wire::PodSandboxStatus, Status> {
        let request = wire::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: false,
        };
        let response = call!(self, pods, pod_sandbox_status, request)?;
        response.status.ok_or_else(|| Status::internal("no status"))
    }

    /// Creates a container in a pod; its ID.
    ///
    /// # Errors
    /// The server's.
    pub fn create(
        &mut self,
        pod: &str,
        config: wire::ContainerConfig,
        of_pod: &wire::PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(of_pod.clone()),
        };
        Ok(call!(self, pods, create_container, request)?.container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The server's.
    pub fn start(&mut self, container: &str) -> Result<(), Status> {
        let container_id = container.to_owned();
        let request = wire::StartContainerRequest { container_id };
        call!(self, pods, start_container, request).map(drop)
    }

    /// Stops a container: asks it, and kills it after so many seconds.
    ///
    /// # Errors
    /// The server's.
    pub fn stop(&mut self, container: &str, timeout: i64) -> Result<(), Status> {
        let container_id = container.to_owned();
        let request = wire::StopContainerRequest {
            container_id,
            timeout,
        };
        call!(self, pods, stop_container, request).map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// The server's.
    pub fn remove(&mut self, container: &str) -> Result<(), Status> {
        let container_id = container.to_owned();
        let request = wire::RemoveContainerRequest { container_id };
        call!(self, pods, remove_container, request).map(drop)
    }

    /// A container's status.
    ///
    /// # Errors
    /// The server's.
    pub fn status(&mut self, container: &str) -> Result<wire::ContainerStatus, Status> {
        let request = wire::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        let response = call!(self, pods, container_status, request)?;
        response.status.ok_or_else(|| Status::internal("no status"))
    }

    /// Changes a container's limits.
    ///
    /// # Errors
    /// The server's.
    pub fn update(
        &mut self,
        container: &str,
        limits: wire::LinuxContainerResources,
    ) -> Result<(), Status> {
        let request = wire::UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(limits),
        };
        call!(self, pods, update_container_resources, request).map(drop)
    }

    /// Runs a command in a container to its end, or for so many seconds (0: without a limit).
    ///
    /// # Errors
    /// The server's; an end by the limit is one.
    pub fn exec(
        &mut self,
        container: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<wire::ExecSyncResponse, Status> {
        let request = wire::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout,
        };
        call!(self, pods, exec_sync, request)
    }

    /// What a container uses.
    ///
    /// # Errors
    /// The server's.
    pub fn stats(&mut self, container: &str) -> Result<wire::ContainerStats, Status> {
        let container_id = container.to_owned();
        let request = wire::ContainerStatsRequest { container_id };
        let response = call!(self, pods, container_stats, request)?;
        response
            .stats
            .ok_or_else(|| Status::internal("no statistics"))
    }

    /// True where the server has an image.
    ///
    /// # Errors
    /// The server's.
    pub fn has_image(&mut self, image: &str) -> Result<bool, Status> {
        let request = wire::ImageStatusRequest {
            image: Some(spec(image)),
        };
        Ok(call!(self, images, image_status, request)?.image.is_some())
    }

    /// Pulls an image; how the server refers to it.
    ///
    /// # Errors
    /// The server's.
    pub fn pull(&mut self, image: &str) -> Result<String, Status> {
        let request = wire::PullImageRequest {
            image: Some(spec(image)),
        };
        Ok(call!(self, images, pull_image, request)?.image_ref)
    }
}

/// An image by its name.
#[must_use]
pub fn spec(image: &str) -> wire::ImageSpec {
    wire::ImageSpec {
        image: image.to_owned(),
        ..wire::ImageSpec::default()
    }
}
