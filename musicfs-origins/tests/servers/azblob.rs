//! A service that opendal reaches, made as a configuration names it: Azure Blob Storage, over an emulator.

use std::net::SocketAddr;
use std::sync::Arc;

use musicfs_core::Origin;
use musicfs_test_utils::conformance::origin::sample_files_utf8;
use musicfs_test_utils::file_servers::{Azurite, Bucket};
use musicfs_test_utils::origin_conformance;

use crate::{
    Files, bucket_with, changes_and_goes, has_no_root, has_what_is_in, in_and_out, in_bucket,
    in_bucket_in_slices, is_denied, of_table, printable,
};

/// A key that opens nothing.
const WRONG_KEY: &str = "V1JPTkdLRVkxMjM0NTY3ODkwV1JPTkdLRVkxMjM0NTY3ODkw";

fn origin_of(addr: SocketAddr, container: &str, key: &'static str, more: &str) -> Arc<dyn Origin> {
    let account = Azurite::ACCOUNT;
    let table = format!(
        "type = 'azblob'\nid = 'azure'\ncontainer = '{container}'\nendpoint = 'http://{addr}/{account}'\n\
         account_name = '{account}'\naccount_key_env = 'KEY'\n{more}"
    );
    of_table(&table, &move |name| (name == "KEY").then(|| key.into()))
}

fn origin(addr: SocketAddr) -> Arc<dyn Origin> {
    origin_of(addr, "music", Azurite::KEY, "")
}

/// Leaves out names with a backslash, which Azure takes for a slash.
fn files() -> Files {
    let files = printable(sample_files_utf8());
    files.into_iter().filter(|(path, _)| !path.as_bytes().contains(&b'\\')).collect()
}

origin_conformance!(azblob_of_an_emulator, in_bucket::<Azurite, _>(files(), origin));
origin_conformance!(
    azblob_through_a_network_in_slices,
    in_bucket_in_slices::<Azurite, _>(files(), origin).await
);

#[tokio::test]
async fn azblob_object_that_changes_is_changed_and_one_that_goes_not_found() {
    changes_and_goes::<Azurite, _>(origin).await;
}

#[tokio::test]
async fn azblob_container_that_is_missing_is_said_and_nothing_is_gone() {
    let server = Azurite::with_bucket("music");
    has_no_root(&origin_of(server.addr(), "musik", Azurite::KEY, ""), "look at its name").await;
}

#[tokio::test]
async fn azblob_wrong_key_is_denied_and_never_shown() {
    let server = Azurite::with_bucket("music");
    let origin = || origin_of(server.addr(), "music", WRONG_KEY, "");
    is_denied(origin, WRONG_KEY, "look at account_name and account_key_file").await;
}

#[tokio::test]
async fn azblob_folder_of_a_container_is_the_origins_root() {
    let server: Azurite = bucket_with(&in_and_out());
    has_what_is_in(&origin_of(server.addr(), "music", Azurite::KEY, "root = 'in/my music'\n")).await;
}
