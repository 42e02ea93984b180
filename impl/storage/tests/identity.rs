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
