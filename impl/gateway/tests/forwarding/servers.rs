//! A writer and a streaming standby of plain PostgreSQL, and a gateway before them.

use auriga_gateway::forward;
use auriga_gateway::forward::settings::ForwardConfig;
use auriga_gateway::forward::shared::Shared;
use auriga_gateway::forward::writers::{Place, Writers};
use auriga_gateway::topology::Topology;
use auriga_instance::postgres::find::{Installation, choose, find};
use auriga_instance::postgres::user::RunAs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_postgres::{Client, NoTls};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server of PostgreSQL.
pub struct Server {
    data: PathBuf,
    user: RunAs,
    installation: Installation,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg("120").arg(self.installation.bin.join(name));
        self.user.apply(&mut command).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts it.
    pub fn start(&self) {
        let options = format!(
            "-c listen_addresses={} -c port={} -c unix_socket_directories='' -c fsync=off -c hot_standby=on \
             -c max_wal_senders=5 -c wal_receiver_status_interval=1 -c wal_retrieve_retry_interval=100ms \
             -c max_prepared_transactions=2 -c lc_messages=C",
            self.address.ip(),
            self.address.port()
        );
        let log = self.data.with_extension("log");
        let mut start = self.program("pg_ctl");
        start.args(["start", "-w", "-t", "60", "-o", &options, "-D"]).arg(&self.data);
        let status = start.arg("-l").arg(&log).status().expect("started");
        assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Replaces its `pg_hba.conf`.
    pub async fn let_in(&self, hba: &str) {
        std::fs::write(self.data.join("pg_hba.conf"), hba).expect("written");
        self.ask("select pg_reload_conf()").await;
    }

    /// Ends it at once.
    pub fn stop(&self) {
        let mut stop = self.program("pg_ctl");
        let _ = stop.args(["stop", "-w", "-m", "immediate", "-D"]).arg(&self.data).status();
    }

    /// A client of its own.
    pub async fn client(&self) -> Client {
        connect(self.address, "").await.expect("connected")
    }

    /// Answers one value.
    pub async fn ask(&self, query: &str) -> String {
        let client = self.client().await;
        let rows = client.simple_query(query).await.expect("answered");
        value(&rows).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The first column of the last row.
pub fn value(rows: &[tokio_postgres::SimpleQueryMessage]) -> Option<String> {
    let row = rows.iter().rev().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.and_then(|row| row.get(0)).map(str::to_owned)
}

/// Connects.
pub async fn connect(address: SocketAddr, options: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres").dbname("postgres").options(options);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A writer, a standby, and a gateway.
pub struct World {
    /// Who is where, as the gateway is told.
    pub topology: watch::Sender<Topology>,
    /// The gateway's.
    pub shared: Arc<Shared>,
    /// The forwarding endpoint.
    pub endpoint: SocketAddr,
    pub standby: Server,
    pub writer: Server,
    _directory: TempDir,
}

impl World {
    /// Starts everything. `change` is given the gateway before it serves.
    pub async fn start(change: impl FnOnce(&mut Shared)) -> World {
        let installation = choose(&find(None).expect("PostgreSQL"), None).expect("PostgreSQL").clone();
        let user = RunAs::resolve(None).expect("a user");
        let directory = tempfile::Builder::new().prefix("forwarding-").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let server = |name: &str, host: u8| {
            let parent = directory.path().join(name);
            std::fs::create_dir(&parent).expect("a directory");
            user.own(&parent).expect("given away");
            let address = free_port(host);
            Server { data: parent.join("data"), user: user.clone(), installation: installation.clone(), address }
        };
        let (writer, standby) = (server("writer", 1), server("standby", 2));
        let mut initdb = writer.program("initdb");
        succeed(
            initdb
                .args(["-U", "postgres", "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8", "-D"])
                .arg(&writer.data),
        );
        writer.start();
        let (host, port) = (writer.address.ip().to_string(), writer.address.port().to_string());
        let mut copy = standby.program("pg_basebackup");
        let copy =
            copy.args(["-U", "postgres", "-R", "-N", "-X", "stream", "-c", "fast", "-h", &host, "-p", &port, "-D"]);
        succeed(copy.arg(&standby.data));
        standby.start();
        let (topology, watched) = watch::channel(Topology {
            volume_epoch: (1, 1),
            writer: Some(writer.address),
            readers: vec![standby.address],
            ..Topology::default()
        });
        let listener = TcpListener::bind("127.0.151.3:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("an address");
        let place = Place { topology: watched.clone(), postgres: None };
        let mut shared = Shared::new(ForwardConfig::usual(endpoint), Writers::new(vec![place]));
        change(&mut shared);
        let shared = Arc::new(shared);
        tokio::spawn(forward::serve(listener, shared.clone(), watched, Arc::new(Semaphore::new(100)), PATIENCE));
        World { topology, shared, endpoint, standby, writer, _directory: directory }
    }

    /// A session through the gateway.
    pub async fn session(&self) -> Client {
        connect(self.endpoint, "").await.expect("connected")
    }

    /// The writer crashes, recovers, and is another one to the gateway.
    pub fn crash_writer(&self) {
        self.topology.send_modify(|topology| topology.writer = None);
        self.writer.stop();
        self.writer.start();
        self.topology.send_modify(|topology| {
            topology.volume_epoch.0 += 1;
            topology.writer = Some(self.writer.address);
        });
    }

    /// Waits until the standby has everything.
    pub async fn caught_up(&self) {
        let lsn = self.writer.ask("select pg_current_wal_flush_lsn()").await;
        let query = format!("select pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn");
        let begun = Instant::now();
        while self.standby.ask(&query).await != "t" {
            assert!(begun.elapsed() < PATIENCE, "the standby does not follow");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn succeed(command: &mut Command) {
    let status = command.status().expect("started");
    assert!(status.success(), "{command:?}");
}

fn free_port(host: u8) -> SocketAddr {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, 0, 151, host), 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// Runs `psql` with these commands, and answers all that it writes.
pub fn psql(address: SocketAddr, path: &Path, input: &str) -> String {
    let mut command = Command::new("timeout");
    command
        .args(["60", "psql", "-XAtq", "-v", "VERBOSITY=verbose", "-U", "postgres", "-d", "postgres", "-f"])
        .arg(path);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    std::fs::write(path, input).expect("written");
    let output = command.stdin(Stdio::null()).output().expect("psql");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}
