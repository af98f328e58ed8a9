//! The two calls of containerd's CRI image service that pull and remove an image: unlike `ctr`,
//! the CRI plugin tells a snapshotter which image a layer is of.

use std::path::Path;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use super::channel::{channel, wait};

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

/// The request of both calls.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

/// The answer of either: the image's name in the first one, nothing in the second.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageAnswer {
    #[prost(string, tag = "1")]
    image_ref: String,
}

/// A client of the image service.
pub struct ImageService(Channel);

impl ImageService {
    pub fn connect(socket: &Path) -> Self {
        ImageService(channel(socket))
    }

    pub fn pull(&self, reference: &str) -> Result<String, tonic::Status> {
        let method = "/runtime.v1.ImageService/PullImage";
        Ok(self.call(method, reference)?.image_ref)
    }

    pub fn remove(&self, reference: &str) {
        let method = "/runtime.v1.ImageService/RemoveImage";
        self.call(method, reference).unwrap();
    }

    fn call(&self, method: &'static str, reference: &str) -> Result<ImageAnswer, tonic::Status> {
        let image = Some(ImageSpec {
            image: reference.to_owned(),
        });
        let mut client = tonic::client::Grpc::new(self.0.clone());
        wait(async {
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<ImageRequest, ImageAnswer>::default();
            let request = tonic::Request::new(ImageRequest { image });
            let path = PathAndQuery::from_static(method);
            Ok(client.unary(request, path, codec).await?.into_inner())
        })
    }
}
