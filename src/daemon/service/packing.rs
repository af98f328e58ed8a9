//! Making the pack of a recorded start and attaching it to its image.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use index_format::Digest;

use crate::daemon::control::{Background, Failure, ImageRequest, Outcome, PackPushed, Program};
use crate::daemon::mounted::ImageMount;
use crate::daemon::query::{failure, image_failure};
use crate::daemon::service::Service;
use crate::daemon::service::requests::start_key;
use brisk_image::Observer;
use brisk_image::pack::{self, PackPlace};
use brisk_layer::{PACK_LEVEL, write_pack};

impl Service {
    /// Makes and attaches the pack of a program's recorded starts.
    pub(super) async fn push_pack(
        &self,
        request: &ImageRequest,
        program: &Program,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        let image = self.resolve(request, false, observer).await?;
        let reference = &image.record.reference;
        let key = start_key(&image, program)?;
        let set = key.and_then(|key| {
            let set = self.startups.store().load(key.manifest, key.command)?;
            Some((key, set))
        });
        let Some((key, set)) = set else {
            return Err(Failure {
                message: format!("no start of this command of {reference} was recorded here"),
                hint: Some("`brisk record` with the same reference and command does".to_owned()),
            });
        };
        let open = self
            .layers
            .open(&ImageMount::new(&image, request, Background::Off, false))?;
        let runs = set.runs();
        let packed = write_pack(
            &open.layers,
            open.content.account(),
            set.layers(),
            &runs,
            PACK_LEVEL,
            |_| {},
        );
        let (table, content) = packed.await.map_err(|e| failure(&e, None))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let place = PackPlace {
            blob: Digest::of(&content).to_string(),
            size: content.len() as u64,
            table: table.encode().len() as u64,
            command: key.command.to_string(),
            created: now.map_or(0, |now| now.as_secs()),
        };
        let query = self.queries.query(request, true)?;
        let artifact = pack::push(&query, &place, content).await;
        let artifact = artifact.map_err(|e| image_failure(&e))?;
        Ok(Outcome::PackPushed(PackPushed {
            reference: reference.clone(),
            artifact: artifact.map(|digest| digest.to_string()),
            size: place.size,
            leaves: table.leaves(),
        }))
    }
}
