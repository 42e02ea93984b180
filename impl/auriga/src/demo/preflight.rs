//! Looks, before anything is started, whether a demo can run here; what is missing is named with the line that helps.

use super::layout::{ADMIN_PORT, Layout, STORAGE};
use auriga_instance::postgres::find;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// Everything that is wrong, as sentences for a person; empty: all is well.
pub fn problems(layout: &Layout) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = find::find(layout.postgres.bin.as_deref()) {
        problems.push(error.to_string());
    }
    problems.extend(fuse_problem());
    problems.extend(address_problems(layout));
    problems
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
    let storage = (0..STORAGE.len()).map(|index| layout.storage_address(index));
    let instances = (0..2).flat_map(|number| {
        let host = layout.instance_host(number);
        [SocketAddr::new(host, layout.port), SocketAddr::new(host, ADMIN_PORT)]
    });
    storage.chain(instances).filter_map(address_problem).collect()
}

fn address_problem(address: SocketAddr) -> Option<String> {
    // The standard library sets SO_REUSEADDR: connections that linger in TIME_WAIT are no obstacle.
    let error = TcpListener::bind(address).err()?;
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} is in use (another demo, or a PostgreSQL that listens on every address?): \
             choose another port with --port, or other addresses with --network 127.0.9"
        ),
        ErrorKind::PermissionDenied => format!("{address} needs privileges: choose a port above 1023 with --port"),
        _ => format!("{address} can't be used: {error}"),
    })
}
