//! Making and finding volumes, over real connections: what is refused, and what the refusal says.

mod common;

use auriga_protocol::{MemberId, VolumeId};
use auriga_volume::Volume;
use auriga_volume::{RemoteVolume, VolumeConfig, create_volume, find_volume};
use common::*;
use std::time::{Duration, Instant};

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(500)
}

/// The volume by its label only, as an instance is configured.
fn by_label(cluster: &Cluster) -> VolumeConfig {
    VolumeConfig { volume: VolumeId(0), ..cluster.volume("instance-1") }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_while_a_process_is_silent_and_it_is_named() {
    let mut cluster = Cluster::start().await;
    let address = cluster.members[&member(3)];
    cluster.stop(3).await;
    let refused = create_volume(&cluster.volume("admin"), shortly()).await.expect_err("one is silent").to_string();
    assert!(refused.contains("nothing was made") && refused.contains(&address.to_string()), "{refused}");
    assert!(cluster.nodes.values().all(|node| node.status().segments.is_empty()));
    cluster.restart(3).await;
    create_volume(&cluster.volume("admin"), soon()).await.expect("all answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_was_written_is_never_made_again() {
    let (cluster, volume) = Cluster::with_volume().await;
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    let again = VolumeConfig { volume: VolumeId(8), ..cluster.volume("admin") };
    let refused = create_volume(&again, soon()).await.expect_err("it exists").to_string();
    assert!(refused.contains("volume 7 exists already") && refused.contains("(v7)"), "{refused}");
    assert_eq!(first_byte(&volume, page(1)).await, 1);
    assert!(cluster.nodes.values().all(|node| node.status().segments.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_making_that_was_cut_short_goes_on_with_its_identity() {
    let cluster = Cluster::start().await;
    let first = create_volume(&cluster.volume("admin"), soon()).await.expect("all answer");
    let again = VolumeConfig { volume: VolumeId(8), ..cluster.volume("admin") };
    assert_eq!(create_volume(&again, soon()).await.expect("nobody has written"), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_found_by_its_label_and_its_shape_is_looked_at() {
    let cluster = Cluster::start().await;
    let none = find_volume(&by_label(&cluster), None, soon()).await.expect_err("none was made").to_string();
    assert!(none.contains("there is no volume 7") && none.contains("create-volume"), "{none}");
    create_volume(&cluster.volume("admin"), soon()).await.expect("all answer");
    assert_eq!(find_volume(&by_label(&cluster), None, soon()).await.expect("it is there"), VOLUME);
    let mut two_groups = by_label(&cluster);
    two_groups.writer.geometry.groups = 2;
    let other = find_volume(&two_groups, None, soon()).await.expect_err("of another shape").to_string();
    assert!(other.contains("groups 1") && other.contains("groups 2"), "{other}");
    let pinned =
        find_volume(&by_label(&cluster), Some(VolumeId(8)), soon()).await.expect_err("another one").to_string();
    assert!(pinned.contains("v7") && pinned.contains("wanted is v8"), "{pinned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_answers_are_named_and_enough_are_enough() {
    let mut cluster = Cluster::start().await;
    create_volume(&cluster.volume("admin"), soon()).await.expect("all answer");
    cluster.stop(0).await;
    cluster.stop(1).await;
    assert_eq!(find_volume(&by_label(&cluster), None, soon()).await.expect("four are enough"), VOLUME);
    cluster.stop(2).await;
    let unheard = find_volume(&by_label(&cluster), None, shortly()).await.expect_err("three are not").to_string();
    assert!(unheard.contains(&cluster.members[&MemberId(2)].to_string()), "{unheard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_volumes_share_the_processes_and_nothing_else() {
    let cluster = Cluster::start().await;
    let other = VolumeConfig { volume: VolumeId(8), label: 8, ..cluster.volume("admin") };
    for config in [&cluster.volume("admin"), &other] {
        create_volume(config, soon()).await.expect("all answer");
        let volume = RemoteVolume::open(config.clone(), soon()).await.expect("opens");
        assert_eq!(first_byte(&volume, page(1)).await, 0);
        commit(&volume, vec![fill(page(1), 0, config.label as u8)], soon()).await.expect("durable");
        assert!(volume.vdl().0 > 0);
    }
    assert_eq!(find_volume(&other, None, soon()).await.expect("there"), VolumeId(8));
}

/// Waits until the segments of these nodes count and have everything that is durable now.
async fn wait_until_whole(cluster: &Cluster, indices: &[u8], volume: &RemoteVolume) {
    let (vdl, until) = (volume.vdl(), Instant::now() + Duration::from_secs(60));
    let whole = |index: &u8| {
        let status = cluster.nodes[&member(*index)].status();
        status.segments.len() == 1
            && status
                .segments
                .iter()
                .all(|(_, s)| !s.rejoining && !s.hydrating && s.scl >= vdl && s.installed.number > 0)
    };
    while !indices.iter().all(whole) {
        let statuses: Vec<_> = indices.iter().map(|index| cluster.nodes[&member(*index)].status()).collect();
        assert!(Instant::now() < until, "{statuses:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_lost_their_directories_come_back_by_themselves_and_count_again() {
    let (mut cluster, volume) = Cluster::start_on_files().await.and_volume().await;
    let late = || Instant::now() + Duration::from_secs(60);
    let mut value = 0;
    for round in 0..2 {
        // One, then two of an AZ; what is written meanwhile must be fetched as well.
        let lost: &[u8] = if round == 0 { &[5] } else { &[2, 3] };
        for index in lost {
            cluster.stop(*index).await;
            cluster.wipe(*index);
        }
        commit(&volume, vec![fill(page(1), value, value + 1)], late()).await.expect("four are enough");
        for index in lost {
            cluster.restart(*index).await;
        }
        commit(&volume, vec![fill(page(1), value + 1, value + 2)], late()).await.expect("durable");
        value += 2;
        wait_until_whole(&cluster, lost, &volume).await;
    }
    // Now those that lost everything are what a quorum rests on.
    cluster.stop(0).await;
    cluster.stop(1).await;
    commit(&volume, vec![fill(page(1), value, value + 1)], late()).await.expect("the four that are left are enough");
    drop(volume);
    let next = RemoteVolume::open(cluster.volume("instance-2"), late()).await.expect("recovers");
    assert_eq!(first_byte(&next, page(1)).await, value + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_holds_another_clusters_volume_says_so_and_gets_no_other() {
    let (mut ours, volume) = Cluster::start_on_files().await.and_volume().await;
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    let theirs = Cluster::start_on_files().await;
    let other = VolumeConfig { volume: VolumeId(8), ..theirs.volume("admin") };
    create_volume(&other, soon()).await.expect("all answer");
    ours.stop(4).await;
    ours.exchange_disks_with(theirs, 4).await;
    ours.restart(4).await;
    let until = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let status = ours.nodes[&member(4)].status();
        if let Some(warning) = status.warnings.first() {
            break warning.clone();
        }
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(said.contains("v8") && said.contains("v7") && said.contains("set-aside"), "{said}");
    commit(&volume, vec![fill(page(1), 1, 2)], soon()).await.expect("the other five go on");
    assert_eq!(find_volume(&by_label(&ours), None, soon()).await.expect("one in six is no doubt"), VOLUME);
    let held = ours.nodes[&member(4)].status().segments;
    assert!(held.len() == 1 && held[0].0.volume == VolumeId(8) && held[0].1.scl.0 == 0, "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_another_shape_is_refused_before_it_fences_anybody() {
    let (cluster, volume) = Cluster::with_volume().await;
    commit(&volume, vec![fill(page(1), 0, 1)], soon()).await.expect("durable");
    let changes: [fn(&mut VolumeConfig); 2] = [
        |config: &mut VolumeConfig| config.writer.geometry.groups = 2,
        |config: &mut VolumeConfig| config.writer.allocation_limit = 64,
    ];
    for change in changes {
        let mut other = cluster.volume("instance-2");
        change(&mut other);
        let refused = RemoteVolume::open(other, shortly()).await.map(|_| ()).expect_err("of another shape").to_string();
        assert!(refused.contains("another shape") && refused.contains("groups 1"), "{refused}");
    }
    commit(&volume, vec![fill(page(1), 1, 2)], soon()).await.expect("the writer of the right shape goes on");
}
