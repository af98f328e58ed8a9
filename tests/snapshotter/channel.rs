//! gRPC over a unix socket, from tests that block.

use std::future::Future;
use std::path::Path;
use std::sync::OnceLock;

use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// Carries out a call.
pub fn wait<T>(call: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Runtime::new().unwrap())
        .block_on(call)
}

/// A connection to that socket.
pub fn channel(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://socket");
    wait(endpoint.connect_with_connector(connect)).unwrap()
}
