//! Puts [`Snapshotter`] into gRPC.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};

use crate::error::SnapshotError;
use crate::filter::Filters;
use crate::mounts::Mount;
use crate::record::{self, Labels, Moment};
use crate::remote::TARGET;
use crate::snapshotter::Snapshotter;
use crate::wire::services::snapshots::v1 as api;
use crate::wire::types;

/// Snapshots in one message of a list.
const LIST_CHUNK: usize = 100;
/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// The service. Calls run on threads that may block.
#[derive(Clone)]
pub struct SnapshotsService {
    snapshotter: Arc<Snapshotter>,
    removed: Arc<Notify>,
}

impl SnapshotsService {
    /// Serves these snapshots; `removed` is told when there is something to clean up.
    pub fn new(snapshotter: Arc<Snapshotter>, removed: Arc<Notify>) -> Self {
        SnapshotsService {
            snapshotter,
            removed,
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Snapshotter) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, Status> {
        let snapshotter = self.snapshotter.clone();
        let result = tokio::task::spawn_blocking(move || work(&snapshotter))
            .await
            .map_err(|error| Status::unavailable(format!("brisk is ending: {error}")))?;
        result.map_err(|error| status(&error))
    }
}

/// containerd decides by the code alone.
fn status(error: &SnapshotError) -> Status {
    let code = match error {
        SnapshotError::NotFound { .. } => Code::NotFound,
        SnapshotError::AlreadyExists { .. } => Code::AlreadyExists,
        SnapshotError::InvalidArgument(_) => Code::InvalidArgument,
        SnapshotError::FailedPrecondition { .. } => Code::FailedPrecondition,
        SnapshotError::Unavailable(_) => {
            tracing::warn!(%error, "a snapshot cannot be had now");
            Code::Unavailable
        }
        SnapshotError::File { .. }
        | SnapshotError::Metadata(_)
        | SnapshotError::Open { .. }
        | SnapshotError::Record { .. } => {
            tracing::error!(%error, "a call on snapshots failed");
            Code::Unknown
        }
    };
    Status::new(code, error.to_string())
}

#[tonic::async_trait]
impl api::snapshots_server::Snapshots for SnapshotsService {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let request = request.into_inner();
        let provided = self.snapshotter.provide(&request.parent, &request.labels);
        if provided.await.map_err(|error| status(&error))? {
            let target = request.labels.get(TARGET).map_or("", String::as_str);
            return Err(status(&SnapshotError::exists(target)));
        }
        let mounts = self
            .call(move |s| s.prepare(&request.key, &request.parent, request.labels))
            .await
            // What was mounted for it may be in vain.
            .inspect_err(|_| self.removed.notify_one())?;
        let mounts = mounts.into_iter().map(mount).collect();
        Ok(Response::new(api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let request = request.into_inner();
        let mounts = self
            .call(move |s| s.view(&request.key, &request.parent, request.labels))
            .await
            .inspect_err(|_| self.removed.notify_one())?;
        let mounts = mounts.into_iter().map(mount).collect();
        Ok(Response::new(api::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let key = request.into_inner().key;
        let mounts = self.call(move |s| s.mounts(&key)).await?;
        let mounts = mounts.into_iter().map(mount).collect();
        Ok(Response::new(api::MountsResponse { mounts }))
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let r = request.into_inner();
        self.call(move |s| s.commit(&r.name, &r.key, &r.parent, r.labels))
            .await
            .map(Response::new)
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        self.call(move |s| s.remove(&key)).await?;
        self.removed.notify_one();
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let found = self.call(move |s| s.stat(&key)).await?;
        Ok(Response::new(api::StatSnapshotResponse {
            info: Some(info(found)),
        }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let (name, labels): (String, Labels) = request
            .info
            .map(|info| (info.name, info.labels))
            .unwrap_or_default();
        let mask = request.update_mask.map(|m| m.paths).unwrap_or_default();
        let changed = self.call(move |s| s.update(&name, &labels, &mask)).await?;
        Ok(Response::new(api::UpdateSnapshotResponse {
            info: Some(info(changed)),
        }))
    }

    type ListStream =
        Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        let found = self
            .call(move |s| s.list(&Filters::parse(&filters)?))
            .await?;
        let mut infos = found.into_iter().map(info).peekable();
        let answers = std::iter::from_fn(move || {
            infos.peek()?;
            let info = infos.by_ref().take(LIST_CHUNK).collect();
            Some(Ok(api::ListSnapshotsResponse { info }))
        });
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = self.call(move |s| s.usage(&key)).await?;
        Ok(Response::new(api::UsageResponse {
            size: i64::try_from(usage.size).unwrap_or(i64::MAX),
            inodes: i64::try_from(usage.inodes).unwrap_or(i64::MAX),
        }))
    }

    async fn cleanup(&self, _: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        self.call(Snapshotter::cleanup).await?;
        // What is still on its way out is waited for by the task that cleans up.
        self.removed.notify_one();
        Ok(Response::new(()))
    }
}

fn mount(mount: Mount) -> types::Mount {
    types::Mount {
        r#type: mount.kind,
        source: mount.source,
        target: String::new(),
        options: mount.options,
    }
}

fn info(info: record::Info) -> api::Info {
    let kind = match info.record.kind {
        record::Kind::View => api::Kind::View,
        record::Kind::Active => api::Kind::Active,
        record::Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: info.name,
        parent: info.record.parent,
        kind: kind.into(),
        created_at: Some(timestamp(info.record.created)),
        updated_at: Some(timestamp(info.record.updated)),
        labels: info.record.labels,
    }
}

fn timestamp(moment: Moment) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.0.div_euclid(SECOND),
        // Below a second, so it fits.
        nanos: i32::try_from(moment.0.rem_euclid(SECOND)).unwrap_or_default(),
    }
}
