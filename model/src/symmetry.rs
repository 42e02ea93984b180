//! What a state is told apart by: its canonical bytes, the same for all states that differ only in the names of
//! segments (reduction 1 of `reductions.rs`).
//!
//! Members are put in an order that does not depend on their names: first by what they, their disks and their messages
//! look like (colour), where that ties by how the writers and the observer see them (second colour); zones by the
//! colours of their members. Then the whole state is written with each member's place in that order for its name. Equal
//! bytes therefore always mean equal up to names, whatever the colours are worth: poor colours cost states, never
//! soundness. The state itself keeps its names, so that traces can be read.

use crate::canon::{Labels, digest, write};
use crate::node::Node;
use crate::world::{Flying, World};
use auriga_protocol::{MemberId, Party, PgId};
use std::cell::RefCell;
use std::hash::{Hash, Hasher};

/// Members are numbered 0..=15.
type PerMember = [u64; 16];

thread_local! {
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::default();
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        SCRATCH.with_borrow_mut(|(bytes, scratch)| {
            bytes.clear();
            write_world(self, bytes, scratch);
            state.write(bytes);
        });
    }
}

/// Appends the canonical bytes of `world`.
pub fn write_world(world: &World, bytes: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    let order =
        if world.shape.symmetric { canonical_order(world, scratch) } else { (0..world.shape.members).collect() };
    let mut place: PerMember = [0; 16];
    for (position, member) in order.iter().enumerate() {
        place[usize::from(*member)] = position as u64;
    }
    let mut label = |member: u8| place[usize::from(member)];
    for (pg, group) in world.nodes.chunks(usize::from(world.shape.members)).enumerate() {
        for member in &order {
            let index = pg * usize::from(world.shape.members) + usize::from(*member);
            bytes.push((world.may_crash(index) || world.may_lose(index)).into());
            write_node(&group[usize::from(*member)], bytes, &mut label);
        }
    }
    write_people(world, bytes, &mut label);
    let mut flying: Vec<(u64, u64, u128)> = (world.network.iter())
        .map(|flying| {
            let mut label = |member: u8| place[usize::from(member)];
            let (from, to) =
                (party_label(flying.envelope.from, &mut label), party_label(flying.envelope.to, &mut label));
            let content =
                if flying.names_members { named_content(flying, scratch, &mut label) } else { flying.content };
            (from, to, content)
        })
        .collect();
    flying.sort_unstable();
    for (from, to, content) in flying {
        bytes.extend_from_slice(&(from << 32 | to).to_le_bytes());
        bytes.extend_from_slice(&content.to_le_bytes());
    }
    let broken = world.broken.as_ref().map_or("", |broken| broken.rule);
    bytes.extend_from_slice(broken.as_bytes());
}

fn named_content(flying: &Flying, scratch: &mut Vec<u8>, label: &mut impl FnMut(u8) -> u64) -> u128 {
    scratch.clear();
    write(scratch, &flying.envelope.message, 0, label);
    digest(scratch)
}

fn write_node(node: &Node, bytes: &mut Vec<u8>, label: &mut impl FnMut(u8) -> u64) {
    if node.names_peers {
        node.write(bytes, label);
    } else {
        bytes.extend_from_slice(&node.digest.to_le_bytes());
    }
}

/// Writers, observer, users, budgets.
fn write_people(world: &World, bytes: &mut Vec<u8>, label: &mut impl Labels) {
    for writer in &world.writers {
        write(bytes, &**writer, 0, label);
    }
    if let Some(reader) = &world.reader {
        write(bytes, &**reader, 0, label);
        bytes.push(world.reader_dropped.into());
    }
    let history = &*world.history;
    write(bytes, &history.observer, 0, label);
    let users = (&history.records, history.acknowledged, history.durable);
    write(bytes, &(users, &history.installs, &history.opened), 0, label);
    write(bytes, &(world.left, world.requests, world.marks), 0, label);
    if let Some(operations) = &history.operations {
        let mut hasher = std::hash::DefaultHasher::new();
        operations.hash(&mut hasher);
        bytes.extend_from_slice(&hasher.finish().to_le_bytes());
    }
}

/// A party as a number: its group, or the writer's number, above its member's label.
fn party_label(party: Party, label: &mut impl FnMut(u8) -> u64) -> u64 {
    match party {
        Party::Segment(segment) => 1 << 31 | u64::from(segment.pg.0) << 8 | label(segment.member.0),
        Party::Writer(_, writer) => writer.0,
        Party::Reader(_, reader) => 1 << 30 | reader.0,
    }
}

/// Collects what writers and observer say of each member.
struct Seen {
    first: PerMember,
    colour: PerMember,
}

impl Labels for Seen {
    fn label(&mut self, member: u8) -> u64 {
        self.first[usize::from(member)]
    }

    fn entry_of(&mut self, member: u8, place: usize, entry: &[u8]) {
        let own = &mut self.colour[usize::from(member)];
        *own = own.wrapping_add((digest(entry) as u64 ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// The members in an order that does not depend on their names, zone by zone.
fn canonical_order(world: &World, scratch: &mut Vec<u8>) -> Vec<u8> {
    let mut zones = zones_that_matter(world);
    let mut colour = first_colours(world);
    if tied(&zones, &colour) {
        let mut seen = Seen { first: colour, colour };
        scratch.clear();
        write_people(world, scratch, &mut seen);
        colour = seen.colour;
    }
    let by_colour = |member: &u8| (colour[usize::from(*member)], *member);
    zones.iter_mut().for_each(|zone| zone.sort_unstable_by_key(by_colour));
    zones.sort_by_cached_key(|zone| zone.iter().map(|member| colour[usize::from(*member)]).collect::<Vec<_>>());
    zones.concat()
}

/// Zones that may crash, and all other members as if of one zone: that two members share a zone means nothing but that
/// they may crash together.
fn zones_that_matter(world: &World) -> Vec<Vec<u8>> {
    let shape = &*world.shape;
    let doomed = |member: u8| (0..shape.groups).any(|pg| world.may_crash(shape.index(PgId(pg), MemberId(member))));
    let may_crash = |zone: &Vec<u8>| world.left.zone_crashes > 0 && zone.iter().any(|member| doomed(*member));
    let (mut zones, others): (Vec<_>, Vec<_>) = shape.zones.iter().cloned().partition(may_crash);
    zones.push(others.concat());
    zones
}

/// What each member, its disk and its messages look like.
fn first_colours(world: &World) -> PerMember {
    let members = usize::from(world.shape.members);
    let mut colour: PerMember = [0; 16];
    for (index, node) in world.nodes.iter().enumerate() {
        let own = &mut colour[index % members];
        *own =
            own.rotate_left(7) ^ node.digest as u64 ^ u64::from(world.may_crash(index) || world.may_lose(index)) << 63;
    }
    let before = colour;
    for flying in &world.network {
        for (end, (this, other)) in
            [(flying.envelope.from, flying.envelope.to), (flying.envelope.to, flying.envelope.from)]
                .into_iter()
                .enumerate()
        {
            let Party::Segment(segment) = this else { continue };
            let mut bytes = [0; 40];
            let other = party_label(other, &mut |member| before[usize::from(member)] >> 40);
            bytes[..16].copy_from_slice(&flying.content.to_le_bytes());
            bytes[16..24].copy_from_slice(&other.to_le_bytes());
            bytes[24..32].copy_from_slice(&u64::from(segment.pg.0).to_le_bytes());
            bytes[32..].copy_from_slice(&(end as u64).to_le_bytes());
            let own = &mut colour[usize::from(segment.member.0)];
            *own = own.wrapping_add(digest(&bytes) as u64);
        }
    }
    colour
}

/// Whether the colours leave it open in which order members or zones come.
fn tied(zones: &[Vec<u8>], colour: &PerMember) -> bool {
    let colours = |zone: &Vec<u8>| {
        let mut colours: Vec<u64> = zone.iter().map(|member| colour[usize::from(*member)]).collect();
        colours.sort_unstable();
        colours
    };
    let mut all: Vec<Vec<u64>> = zones.iter().map(colours).collect();
    let within = all.iter().any(|zone| zone.windows(2).any(|pair| pair[0] == pair[1]));
    all.sort_unstable();
    within || all.windows(2).any(|pair| pair[0] == pair[1])
}
