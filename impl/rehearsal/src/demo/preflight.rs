//! Looks, before anything is started, whether a demo can run here; what is missing is named with the line that helps.

use super::layout::{ADMIN_PORT, Layout, READERS_PORT};
use auriga_instance::postgres::user::RunAs;
use auriga_instance::postgres::{find, settings};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Bytes that must be free: a store's reserve and an eighth (below it, storage refuses writes), and room for six copies of
/// a new database.
const ROOM_NEEDED: u64 = (256 << 20) / 8 * 9 + 6 * (96 << 20);

/// Everything that is wrong, as sentences for a person; empty: all is well.
pub fn problems(layout: &Layout) -> Vec<String> {
    let mut problems = Vec::new();
    match (find::find(layout.postgres.bin.as_deref()), RunAs::resolve(layout.postgres.user.as_deref())) {
        (Err(error), _) => problems.push(error.to_string()),
        (_, Err(error)) => problems.push(error.to_string()),
        (Ok(installations), Ok(user)) => {
            let settings: Vec<_> = layout.postgres.settings.clone().into_iter().collect();
            problems.extend(settings::check(&installations[0], &user, &settings).err().map(|error| error.to_string()));
        }
    }
    problems.extend(fuse_problem());
    problems.extend(room_problem(&layout.dir));
    problems.extend(address_problems(layout));
    problems
}

/// Six stores keep a reserve free, each on its own and so all the same one here; what is written comes on top of it.
fn room_problem(dir: &Path) -> Option<String> {
    // The directory may not be there yet.
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let room = nix::sys::statvfs::statvfs(there).ok()?;
    let free = room.blocks_available() * room.fragment_size();
    too_little(free).then(|| {
        format!(
            "{} has {} MB free, and {} MB are needed: make room, or choose a directory elsewhere with --dir",
            there.display(),
            free >> 20,
            ROOM_NEEDED >> 20
        )
    })
}

fn too_little(free: u64) -> bool {
    free < ROOM_NEEDED
}

fn fuse_problem() -> Option<String> {
    let error = OpenOptions::new().read(true).write(true).open("/dev/fuse").err()?;
    Some(match error.kind() {
        ErrorKind::NotFound => "/dev/fuse is missing: load it with `sudo modprobe fuse`; in a container, start that \
             with `docker run --device /dev/fuse --cap-add SYS_ADMIN …`"
            .to_owned(),
        ErrorKind::PermissionDenied => "/dev/fuse may not be opened by this user: run it with `sudo`, or once \
             `sudo chmod 666 /dev/fuse`; in a container, start that with \
             `docker run --device /dev/fuse --cap-add SYS_ADMIN …`"
            .to_owned(),
        _ => format!("/dev/fuse can't be opened: {error}"),
    })
}

fn address_problems(layout: &Layout) -> Vec<String> {
    let storage = layout.fleet().into_iter().map(|storage| storage.address);
    // The writer, the readers, and at least one that takes over.
    let instances = (0..=layout.readers.max(1)).flat_map(|number| {
        let host = layout.instance_host(number);
        let readers = (number == 0 && (layout.readers > 0 || layout.region.is_some())).then_some(READERS_PORT);
        [layout.port, ADMIN_PORT].into_iter().chain(readers).map(move |port| SocketAddr::new(host, port))
    });
    let endpoints = [layout.writer_endpoint(), layout.reader_endpoint(), layout.forwarding_endpoint()];
    let in_region = endpoints.into_iter().filter(|_| layout.region.is_some());
    let watchers = endpoints.into_iter().chain([layout.control_address(), layout.dns_config().listen]);
    let instances = instances.chain(watchers.filter(|_| layout.watched)).chain(in_region);
    let region = layout.region.iter().flat_map(|region| layout.region_addresses(region));
    let instances = instances.chain(region.map(|region| region.address));
    let instances = instances.chain(layout.region.iter().map(|_| layout.region_readers()));
    // The standard library sets SO_REUSEADDR: connections that linger in TIME_WAIT are no obstacle.
    let unusable = |address| TcpListener::bind(address).err().map(|error| (address, error));
    let unusable: Vec<(SocketAddr, io::Error)> = storage.chain(instances).filter_map(unusable).collect();
    let (taken, others): (Vec<_>, Vec<_>) =
        unusable.into_iter().partition(|(_, error)| error.kind() == ErrorKind::AddrInUse);
    let others = others.into_iter().map(|(address, error)| match error.kind() {
        ErrorKind::PermissionDenied => format!("{address} needs privileges: choose a port above 1023 with --port"),
        _ => format!("{address} can't be used: {error}"),
    });
    let taken: Vec<SocketAddr> = taken.into_iter().map(|(address, _)| address).collect();
    taken_problem(&taken, layout.port).into_iter().chain(others).collect()
}

/// What to do where addresses are in use: said once, however many they are.
fn taken_problem(taken: &[SocketAddr], port: u16) -> Option<String> {
    let first = taken.first()?;
    if taken.iter().all(|address| address.port() == port) {
        return Some(format!(
            "{first} is in use (a PostgreSQL that listens on every address?): choose another port with --port, or \
             other addresses with --network 127.0.9"
        ));
    }
    let others = match taken.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!("{first}{others} is in use, by another demo? Choose other addresses with --network 127.0.9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_demo_is_told_from_another_postgresql() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let postgres = address("127.0.1.11:5432");
        assert_eq!(taken_problem(&[], 5432), None);
        assert!(taken_problem(&[postgres], 5432).expect("a problem").contains("--port"));
        let all = taken_problem(&[address("127.0.1.1:7400"), postgres], 5432).expect("a problem");
        assert!(all.contains("127.0.1.1:7400 (and 1 more)") && !all.contains("--port"), "{all}");
    }
}
