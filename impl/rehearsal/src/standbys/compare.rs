//! Comparing standbys that are paused at the same position.

use super::{ProgramError, Server};
use std::time::{Duration, Instant};

/// How long it may take until all are at one position.
const PAUSE_LIMIT: Duration = Duration::from_secs(240);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pauses replay of all `standbys` where the writer is now, and answers that position. The writer has to be idle: they need
/// a moment without WAL.
///
/// # Errors
/// One does not answer, or they don't meet in time.
pub fn pause(writer: &Server, standbys: &[&Server]) -> Result<String, ProgramError> {
    let until = Instant::now() + PAUSE_LIMIT;
    loop {
        resume(standbys)?;
        let written = writer.ask("SELECT pg_current_wal_lsn()")?;
        for server in standbys {
            let caught_up = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
            wait(server, &caught_up, "t", until)?;
        }
        for server in standbys {
            server.ask("SELECT pg_wal_replay_pause()")?;
            wait(server, "SELECT pg_get_wal_replay_pause_state()", "paused", until)?;
        }
        let positions = standbys.iter().map(|server| server.ask("SELECT pg_last_wal_replay_lsn()"));
        let positions: Vec<String> = positions.collect::<Result<_, _>>()?;
        match positions.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => return Ok(first.clone()),
            _ if Instant::now() >= until => {
                return Err(ProgramError::Late(format!("the standbys do not meet at one position: {positions:?}")));
            }
            _ => {}
        }
    }
}

fn wait(server: &Server, question: &str, wanted: &str, until: Instant) -> Result<(), ProgramError> {
    loop {
        let answer = server.ask(question)?;
        if answer == wanted {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(ProgramError::Late(format!("{}: {question}: still {answer:?}", server.name)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets replay go on.
///
/// # Errors
/// One does not answer.
pub fn resume(standbys: &[&Server]) -> Result<(), ProgramError> {
    standbys.iter().try_for_each(|server| server.ask("SELECT pg_wal_replay_resume()").map(drop))
}

/// The questions: each relation read through, each index by what it is good for. Of a sequence, up to where its numbers are
/// logged: a standby that replays the record shows that as the last value, and one that began with the page the value that
/// was given out last, and how many are left (`log_cnt`).
const QUESTIONS: &str = "
SELECT format('SELECT %L, count(*), sum(hashtext(t::text)::numeric) FROM %I.%I t;', c.oid::regclass || ' read through', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'm') AND relpersistence = 'p' ORDER BY c.oid;
SELECT format('SELECT %L, last_value + log_cnt, is_called FROM %I.%I;', c.oid::regclass, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S' ORDER BY c.oid;
SELECT 'SET enable_seqscan = off; SET enable_bitmapscan = off;';
SELECT format('SELECT %L, count(%I), sum(hashtext(%I::text)::numeric) FROM %I.%I;', i.indexrelid::regclass || ' by index', a.attname, a.attname, n.nspname, c.relname)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
  WHERE m.amname = 'btree' AND indisvalid AND indpred IS NULL AND c.relpersistence = 'p' ORDER BY i.indexrelid;
SELECT 'SET enable_bitmapscan = on;';
";

/// Of the tables that have them, by the other kinds of index.
const MORE: &str = "
SELECT 'hash', count(*), sum(id) FROM many WHERE num = 5;
SELECT 'gin', count(*), sum(id) FROM many WHERE tags @> ARRAY[3];
SELECT 'gin of documents', count(*), sum(id) FROM many WHERE doc @> '{\"k\": 5}';
SELECT 'gist', count(*), sum(id) FROM many WHERE pt <@ box '((10,10),(50,50))';
SELECT 'brin', count(*), sum(id) FROM many WHERE id BETWEEN 1000 AND 3300;
";

/// Where `pg_visibility` is: pages whose flags lie.
const VISIBILITY: &str = "
SELECT 'visible and not', c.oid::regclass, count(v) FROM pg_class c, pg_check_visible(c.oid) v WHERE relkind = 'r' AND relpersistence = 'p' GROUP BY 2;
SELECT 'frozen and not', c.oid::regclass, count(v) FROM pg_class c, pg_check_frozen(c.oid) v WHERE relkind = 'r' AND relpersistence = 'p' GROUP BY 2;
";

/// The catalogs alone are more.
const LEAST_QUESTIONS: usize = 50;

/// What was compared, and what differed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Compared {
    /// Databases.
    pub databases: usize,
    /// Questions that both were asked.
    pub questions: usize,
    /// One line for each difference.
    pub differences: Vec<String>,
}

/// Asks both servers the same, of every database; and lets `pg_amcheck` read the first one's tables and indexes, where the
/// extension is. Both have to be paused at one position.
///
/// # Errors
/// One of them does not answer, or answers with an error.
pub fn compare(ours: &Server, theirs: &Server) -> Result<Compared, ProgramError> {
    let names = theirs.run("postgres", "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")?;
    let mut compared = Compared::default();
    for database in names.lines() {
        let mut questions = theirs.run(database, QUESTIONS)?;
        if database == "postgres" {
            questions.push_str(MORE);
        }
        if theirs.run(database, "SELECT 1 FROM pg_extension WHERE extname = 'pg_visibility'")?.trim() == "1" {
            questions.push_str(VISIBILITY);
        }
        let (told, expected) = (ours.run(database, &questions)?, theirs.run(database, &questions)?);
        let (told, expected): (Vec<&str>, Vec<&str>) = (told.lines().collect(), expected.lines().collect());
        let differ = told.iter().zip(&expected).filter(|(told, expected)| told != expected);
        let lines = differ.map(|(told, expected)| format!("{database}: {} says {told}, plain {expected}", ours.name));
        compared.differences.extend(lines);
        if told.len() != expected.len() {
            let (told, expected) = (told.len(), expected.len());
            compared.differences.push(format!("{database}: {} answers {told} times, plain {expected}", ours.name));
        }
        if expected.len() < LEAST_QUESTIONS {
            compared.differences.push(format!("{database}: only {} questions: nothing was compared", expected.len()));
        }
        compared.databases += 1;
        compared.questions += expected.len();
    }
    match ours.succeed("pg_amcheck", &["--heapallindexed", "--all"]) {
        Ok(_) => {}
        Err(ProgramError::Failed { said, .. }) => {
            compared.differences.push(format!("pg_amcheck at {}: {said}", ours.name))
        }
        Err(error) => return Err(error),
    }
    Ok(compared)
}
