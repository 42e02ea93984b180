//! A global database on one machine: several regions, each a [`Demo`] with a region's process, and a
//! network between them that is late and can be cut.
//!
//! - [`layout`]: who is where.
//! - [`wan`]: the network between regions.
//! - [`watching`]: where each region stands, and how late it is.
//! - [`following`](self): instances follow the role.
//! - [`faults`](self): what `auriga inject` does to regions.
//! - [`forwarding`](self): writes in a secondary, in each mode.
//! - [`operations`], [`lost`]: what a person does with the commands, and the named loss.
//! - [`tour`]: a fixed walk through failures.
//! - [`summary`]: what a person sees.

mod faults;
mod following;
mod forwarding;
pub mod layout;
pub mod lost;
pub mod operations;
pub mod rehearse;
pub mod summary;
pub mod tour;
pub mod wan;
pub mod watching;

use crate::demo::control::{self, Ask, Reply};
use crate::demo::layout::Layout;
use crate::demo::region::name;
use crate::demo::watchers::GATEWAY;
use crate::demo::{Demo, DemoError, Members, Options, Place, WRITER, io_error, place};
use auriga_admin::member::Described;
use auriga_admin::terminal;
use auriga_audit::trace_check::TraceError;
use layout::GlobalLayout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wan::{LineShown, Wan, WanOptions};
use watching::{StandingShown, Watcher};

/// A region's process answers within this time of its start.
const REGIONS_READY: Duration = Duration::from_secs(60);
/// How often it is looked whether regions answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A global database as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GlobalShown {
    /// The demo's fixed facts.
    pub layout: GlobalLayout,
    /// The members of each region.
    pub members: Vec<Vec<Described>>,
    /// Where each region stands that answers, by its number.
    pub standings: BTreeMap<u16, StandingShown>,
    /// The network between them.
    pub lines: Vec<LineShown>,
}

/// A running demo of several regions. Dropping it stops everything.
pub struct GlobalDemo {
    regions: Vec<Demo>,
    layout: GlobalLayout,
    wan: Arc<Wan>,
    watcher: Arc<Watcher>,
    runtime: Runtime,
    is_kept: bool,
    place: Option<Place>,
}

impl GlobalDemo {
    /// Starts one: returns when PostgreSQL of the primary accepts connections, and every region follows.
    ///
    /// # Errors
    /// As [`Demo::bring_up`].
    pub fn bring_up(
        options: &Options,
        regions: u16,
        wan: WanOptions,
        stop: &Receiver<()>,
    ) -> Result<GlobalDemo, DemoError> {
        let is_kept = options.dir.is_some();
        let layout = GlobalLayout::new(options, regions, wan)?;
        place::check(&layout.regions)?;
        let place = Place::take(&layout.dir, is_kept, &layout.dir.join("storage"))?;
        let assemble = |region: &Layout| Demo::assemble(region.clone(), None, is_kept, None);
        let regions: Vec<Demo> = layout.regions.iter().map(assemble).collect::<Result<_, _>>()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(io_error(&layout.dir))?;
        let wires = |from: u16, to: u16| {
            let (from, there) = (&layout.regions[usize::from(from) - 1], &layout.regions[usize::from(to) - 1]);
            let process = (from.wire_address(to), there.region_address());
            let admin = (from.wire_to_admin(to), there.admin_address(0));
            let postgres = (from.wire_to_postgres(to), SocketAddr::new(there.instance_host(0), there.port));
            vec![process, admin, postgres]
        };
        let wan = Wan::lay(runtime.handle(), layout.regions.len() as u16, layout.wan, wires);
        let wan = Arc::new(wan.map_err(io_error(&layout.dir))?);
        let watcher = Arc::new(Watcher::start(runtime.handle(), &layout.beside()?));
        let demo = GlobalDemo { regions, layout, wan, watcher, runtime, is_kept, place: Some(place) };
        demo.listen()?;
        match demo.begin(stop) {
            Ok(()) => Ok(demo),
            Err(DemoError::Interrupted) => Err(DemoError::Interrupted),
            Err(source) if is_kept => Err(source),
            Err(source) => {
                demo.regions.iter().for_each(|region| region.cluster().0.stop_all());
                let folders: Vec<String> = demo.layout.numbers().map(|n| format!("{}/logs", name(n))).collect();
                let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
                Err(place::put_logs_aside(&demo.layout.dir, &folders, source))
            }
        }
    }

    fn begin(&self, stop: &Receiver<()>) -> Result<(), DemoError> {
        for (number, region) in self.layout.numbers().zip(&self.regions) {
            region.begin_storage(stop)?;
            region.cluster().0.start(&name(number))?;
        }
        // Each is a reader until its region is the primary.
        self.regions.iter().try_for_each(|region| region.launch(WRITER))?;
        let access = self.regions.iter().map(|region| region.access().clone()).collect();
        self.runtime.spawn(following::follow(self.layout.clone(), access, self.watcher.clone()));
        let primary = self.wait_for_regions(stop)?;
        self.region(primary).wait_for_instance(WRITER, Some(stop))?;
        let others = self.layout.numbers().filter(|number| *number != primary);
        others.into_iter().try_for_each(|number| self.region(number).wait_for_instance(WRITER, Some(stop)))?;
        self.regions.iter().try_for_each(|region| Ok(region.cluster().0.start(GATEWAY)?))
    }

    /// Waits until every region says where it stands. Returns the primary.
    fn wait_for_regions(&self, stop: &Receiver<()>) -> Result<u16, DemoError> {
        let deadline = Instant::now() + REGIONS_READY;
        loop {
            let standings = self.watcher.standings();
            if let (Some(primary), true) = (self.watcher.primary(), standings.len() == self.regions.len()) {
                return Ok(primary);
            }
            for (number, region) in self.layout.numbers().zip(&self.regions) {
                region.cluster().0.check_alive(&name(number))?;
                if Instant::now() >= deadline && !standings.contains_key(&number) {
                    return Err(region.cluster().0.late(&name(number), REGIONS_READY).into());
                }
            }
            if stop.try_recv().is_ok() {
                return Err(DemoError::Interrupted);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Serves `auriga status` and `auriga inject`.
    fn listen(&self) -> Result<(), DemoError> {
        let path = control::socket(&self.layout.dir);
        let listener = control::listener(&path).map_err(io_error(&path))?;
        let regions: Vec<Members> = self.regions.iter().map(Demo::members).collect();
        let (layout, wan, watcher) = (self.layout.clone(), self.wan.clone(), self.watcher.clone());
        // The thread lives as long as the program, so that what it starts does, too.
        let serve = move |listener: UnixListener| {
            control::serve(&listener, |ask| match ask {
                Ask::Describe => Reply::Regions(Box::new(GlobalShown {
                    layout: layout.clone(),
                    members: regions.iter().map(Members::describe).collect(),
                    standings: watcher.standings(),
                    lines: wan.shown(),
                })),
                Ask::Inject { target, action, ms } => match faults::inject(&regions, &wan, (&target, action, ms)) {
                    Ok(outcome) => {
                        if !outcome.done.is_empty() {
                            println!("inject {action:?} {}", outcome.done.join(" "));
                        }
                        Reply::Done(outcome)
                    }
                    Err(error) => Reply::Refused(error.to_string()),
                },
            });
        };
        let thread = std::thread::Builder::new().name("control".to_owned());
        thread.spawn(move || serve(listener)).map_err(io_error(&path))?;
        Ok(())
    }

    /// The demo's fixed facts.
    pub fn layout(&self) -> &GlobalLayout {
        &self.layout
    }

    /// A region, by its number, of those that there are.
    pub fn region(&self, number: u16) -> &Demo {
        &self.regions[usize::from(number) - 1]
    }

    /// The network between regions.
    pub fn wan(&self) -> &Wan {
        &self.wan
    }

    /// Where regions stand.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// For asking over the network.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Where PostgreSQL of a region listens.
    pub fn postgres(&self, number: u16) -> SocketAddr {
        self.region(number).postgres(0)
    }

    /// Where a region's gateway takes connections whose writes it forwards.
    pub fn forwarding(&self, number: u16) -> SocketAddr {
        self.region(number).layout().forwarding_endpoint()
    }

    /// Stops every process, then judges the traces of each region: whether they hold.
    ///
    /// # Errors
    /// The traces can't be read.
    pub fn judge_traces(&self) -> Result<bool, TraceError> {
        let mut holds = true;
        for (number, region) in self.layout.numbers().zip(&self.regions) {
            println!("\n{}", name(number));
            holds &= region.judge_traces()?;
        }
        Ok(holds)
    }

    /// Shows what happens until asked to stop.
    pub fn stay(&self, stop: &Receiver<()>) {
        let mut primary = self.watcher.primary().unwrap_or_default();
        println!("{}", summary::boxed(&self.layout, primary, self.is_kept, terminal::width()));
        let mut crashes: Vec<Vec<Instant>> = vec![Vec::new(); self.regions.len()];
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_millis(200)) {
            for ((number, region), crashes) in self.layout.numbers().zip(&self.regions).zip(&mut crashes) {
                region.look_after(crashes, &format!("{}/", name(number)));
            }
            if let Some(now) = self.watcher.primary().filter(|now| *now != primary) {
                primary = now;
                println!("{} is the primary", name(primary));
            }
        }
        println!("stopping …");
    }
}

impl Drop for GlobalDemo {
    fn drop(&mut self) {
        self.regions.clear();
        drop(self.place.take());
    }
}
