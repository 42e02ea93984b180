//! Old copies of directories are put back (R-LIFE-1 to 5), on real stores.

mod common;

use auriga_protocol::segment::SegmentStatus;
use auriga_volume::{RemoteVolume, Volume, create_volume};
use common::*;
use std::time::{Duration, Instant};

async fn wait_until(cluster: &Cluster, index: u8, what: &str, holds: impl Fn(&SegmentStatus) -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !cluster.nodes[&member(index)].status().segments.iter().any(|(_, status)| holds(status)) {
        assert!(Instant::now() < until, "not {what}: {:?}", cluster.nodes[&member(index)].status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes get old copies back while a third one is down that lags: the three of them would be a read quorum
/// without the last commit.
#[tokio::test(flavor = "multi_thread")]
async fn two_old_copies_are_found_out_while_a_third_process_lags() {
    let mut cluster = Cluster::start_on_files().await;
    create_volume(&cluster.volume("admin"), soon()).await.expect("all answer");
    let volume = RemoteVolume::open(cluster.volume("instance-1"), soon()).await.expect("opens");
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    for index in [0, 2] {
        cluster.stop(index).await;
        cluster.copy_disk(index);
        cluster.restart(index).await;
        wait_until(&cluster, index, "registered", |status| !status.unregistered && !status.rejoining).await;
    }
    cluster.stop(4).await;
    commit(&volume, vec![fill(page(1), 0, 2)], soon()).await.expect("five are enough");
    let vdl = volume.vdl();
    drop(volume);
    for index in [0, 2] {
        cluster.stop(index).await;
        cluster.put_back(index);
        cluster.restart(index).await;
    }
    for index in [0, 2] {
        wait_until(&cluster, index, "found out", |status| status.rejoining).await;
    }
    cluster.restart(4).await;
    let volume = RemoteVolume::open(cluster.volume("instance-2"), soon()).await.expect("opens");
    assert_eq!(first_byte(&volume, page(1)).await, 2, "an acknowledged commit is gone");
    for index in [0, 2, 4] {
        wait_until(&cluster, index, "whole", |status| !status.rejoining && status.scl >= vdl).await;
    }
}
