//! A service that opendal reaches, made as a configuration names it: Google Cloud Storage, over an emulator.

use std::net::SocketAddr;
use std::sync::Arc;

use musicfs_core::Origin;
use musicfs_test_utils::conformance::origin::sample_files_utf8;
use musicfs_test_utils::file_servers::{Bucket, Gcs};
use musicfs_test_utils::origin_conformance;

use crate::{changes_and_goes, has_no_root, in_bucket, in_bucket_in_slices, of_table, printable};

fn origin_of(addr: SocketAddr, bucket: &str) -> Arc<dyn Origin> {
    let table = format!(
        "type = 'gcs'\nid = 'google'\nbucket = '{bucket}'\nendpoint = 'http://{addr}'\nskip_signature = true\n"
    );
    of_table(&table, &|_| None)
}

fn origin(addr: SocketAddr) -> Arc<dyn Origin> {
    origin_of(addr, "music")
}

origin_conformance!(gcs_of_an_emulator, in_bucket::<Gcs, _>(printable(sample_files_utf8()), origin));
origin_conformance!(
    gcs_through_a_network_in_slices,
    in_bucket_in_slices::<Gcs, _>(printable(sample_files_utf8()), origin).await
);

#[tokio::test]
async fn gcs_object_that_changes_is_changed_and_one_that_goes_not_found() {
    changes_and_goes::<Gcs, _>(origin).await;
}

#[tokio::test]
async fn gcs_bucket_that_is_missing_is_said_and_nothing_is_gone() {
    let server = Gcs::with_bucket("music");
    has_no_root(&origin_of(server.addr(), "musik"), "look at its name").await;
}
