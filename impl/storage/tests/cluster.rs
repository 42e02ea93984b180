//! A volume over six storage nodes: written, read, and kept through what can happen to them.

mod common;

use auriga_net::admin::Fault;
use auriga_protocol::writer::WriterRole;
use auriga_volume::{RemoteVolume, create_volume};
use auriga_volume::{Volume, VolumeError};
use common::*;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_is_read_also_by_the_next_writer() {
    let (cluster, volume) = Cluster::start_on_files().await.and_volume().await;
    for value in 0..20 {
        commit(&volume, vec![fill(page(1), value, value + 1), fill(page(2), value, value + 1)], soon())
            .await
            .expect("durable");
    }
    assert_eq!((first_byte(&volume, page(1)).await, first_byte(&volume, page(2)).await), (20, 20));
    assert_eq!(first_byte(&volume, page(3)).await, 0, "never written");
    let before = volume.status().writer.volume_epoch;
    assert!(volume.close(soon()).await);
    let next = RemoteVolume::open(cluster.volume("instance-2"), soon()).await.expect("recovers");
    assert_eq!(first_byte(&next, page(1)).await, 20);
    assert!(next.status().writer.volume_epoch > before);
    assert!(next.close(Instant::now()).await, "nothing was written, so there is nothing to wait for");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_down_nobody_waits_three_down_commits_wait_and_resume() {
    let (mut cluster, volume) = Cluster::with_volume().await;
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    cluster.stop(0).await;
    cluster.stop(1).await;
    commit(&volume, vec![fill(page(1), 1, 2)], soon()).await.expect("four are enough");
    cluster.stop(2).await;
    let lsn = volume.submit(vec![fill(page(1), 2, 3)], soon()).expect("allocated");
    let short = Instant::now() + Duration::from_millis(300);
    assert_eq!(durable(&volume, lsn, short).await, Err(VolumeError::TimedOut), "three are not enough");
    assert_eq!(first_byte(&volume, page(1)).await, 2, "reads go on");
    cluster.restart(2).await;
    assert_eq!(durable(&volume, lsn, soon()).await, Ok(()), "commits resume by themselves");
    assert_eq!(first_byte(&volume, page(1)).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_writer_fences_the_old_one() {
    let (cluster, old) = Cluster::with_volume().await;
    commit(&old, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    let new = RemoteVolume::open(cluster.volume("instance-2"), soon()).await.expect("recovers");
    let fenced = VolumeError::Fenced { by: new.status().writer.volume_epoch };
    assert_eq!(commit(&old, vec![fill(page(1), 1, 9)], soon()).await, Err(fenced));
    assert_eq!(*old.watch_role().borrow(), WriterRole::Fenced);
    assert_eq!(old.submit(vec![fill(page(1), 1, 9)], soon()), Err(fenced));
    assert_eq!(read(&old, page(1), soon()).await.err(), Some(fenced));
    commit(&new, vec![fill(page(1), 1, 2)], soon()).await.expect("durable");
    assert_eq!(first_byte(&new, page(1)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restart_and_nothing_durable_is_lost() {
    let (mut cluster, volume) = Cluster::start_on_files().await.and_volume().await;
    for value in 0..5 {
        commit(&volume, vec![fill(page(u64::from(value)), 0, value + 1)], soon()).await.expect("durable");
    }
    drop(volume);
    for index in 0..6 {
        cluster.stop(index).await;
    }
    for index in 0..6 {
        cluster.restart(index).await;
    }
    let volume = RemoteVolume::open(cluster.volume("instance-2"), soon()).await.expect("recovers");
    for value in 0..5 {
        assert_eq!(first_byte(&volume, page(u64::from(value))).await, value + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_and_a_partitioned_one_slow_nobody_down() {
    let (cluster, volume) = Cluster::with_volume().await;
    cluster.nodes[&member(0)].inject(&Fault::Delay { incoming_ms: 400, outgoing_ms: 400 });
    cluster.nodes[&member(1)].inject(&Fault::Partition { from: vec!["instance-1".into()] });
    let began = Instant::now();
    for value in 0..20 {
        commit(&volume, vec![fill(page(1), value, value + 1)], soon()).await.expect("durable");
        assert_eq!(first_byte(&volume, page(1)).await, value + 1);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Gossip fills what the partitioned segment missed.
    let until = soon();
    let vdl = volume.vdl();
    while cluster.nodes[&member(1)].status().segments[0].1.scl < vdl {
        assert!(Instant::now() < until, "gossip does not fill");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.nodes[&member(1)].inject(&Fault::Clear);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_refuse_and_lift() {
    let (cluster, volume) = Cluster::with_volume().await;
    let all = |fault: Fault| cluster.nodes.values().for_each(|node| node.inject(&fault));
    all(Fault::DiskFull(true));
    let lsn = volume.submit(vec![fill(page(1), 0, 1)], soon()).expect("allocated");
    let short = Instant::now() + Duration::from_millis(200);
    assert_eq!(durable(&volume, lsn, short).await, Err(VolumeError::TimedOut));
    all(Fault::DiskFull(false));
    assert_eq!(durable(&volume, lsn, soon()).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_delays_and_loses_nothing() {
    let (cluster, volume) = Cluster::with_volume().await;
    cluster.nodes.values().for_each(|node| node.inject(&Fault::SlowDisk { append_ms: 60 }));
    let began = Instant::now();
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn back_pressure_holds_submitters_until_their_deadline() {
    let mut cluster = Cluster::start().await;
    let mut config = cluster.volume("instance-1");
    config.writer.allocation_limit = 4;
    create_volume(&config, soon()).await.expect("all nodes answer");
    let volume = RemoteVolume::open(config, soon()).await.expect("opens");
    for index in 0..3 {
        cluster.stop(index).await;
    }
    // A fresh volume may allocate LAL above where its recovery's truncation ended.
    let mut allocated = 0;
    let refused = loop {
        let short = Instant::now() + Duration::from_millis(100);
        match volume.submit(vec![fill(page(1), allocated, allocated + 1)], short) {
            Ok(_) => allocated += 1,
            Err(error) => break error,
        }
        assert!(allocated < 50, "back-pressure never comes");
    };
    assert_eq!(refused, VolumeError::TimedOut);
    cluster.restart(0).await;
    volume.submit(vec![fill(page(1), allocated, allocated + 1)], soon()).expect("it lifts");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_groups_and_volumes_share_the_nodes() {
    let cluster = Cluster::start().await;
    let mut volumes = Vec::new();
    for id in 1..=2 {
        let mut config = cluster.volume("instance-1");
        (config.volume, config.label) = (auriga_protocol::VolumeId(id), id);
        config.writer.geometry.groups = 3;
        config.writer.geometry.extent_blocks = 1;
        create_volume(&config, soon()).await.expect("all nodes answer");
        volumes.push(RemoteVolume::open(config, soon()).await.expect("opens"));
    }
    for (volume, value) in volumes.iter().zip([5, 6]) {
        let changes = (0..9).map(|block| fill(page(block), 0, value)).collect();
        commit(volume, changes, soon()).await.expect("durable");
    }
    for (volume, value) in volumes.iter().zip([5, 6]) {
        for block in 0..9 {
            assert_eq!(first_byte(volume, page(block)).await, value);
        }
    }
    assert_eq!(cluster.nodes[&member(0)].status().segments.len(), 6);
}
