//! What the writer does: everything that changes files in its own way.

use super::{ProgramError, Server, run};
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

/// Bursts that what one has made lives: a long run does not fill the disk.
const KEPT: u32 = 4;

/// Fills a new cluster.
///
/// # Errors
/// The server's.
pub fn prepare(writer: &Server) -> Result<(), ProgramError> {
    writer.succeed("pgbench", &["--initialize", "--scale=1", "--quiet", "postgres"])?;
    for database in ["template1", "postgres"] {
        writer.run(database, "CREATE EXTENSION amcheck; CREATE EXTENSION pg_visibility;")?;
    }
    writer.run("postgres", PREPARE).map(drop)
}

const PREPARE: &str = "
CREATE TABLE many (id bigint PRIMARY KEY, num int, txt text, tags int[], pt point, doc jsonb);
INSERT INTO many SELECT i, i % 97, repeat(md5(i::text), 3), ARRAY[i % 7, i % 11], point(i % 100, i / 100), jsonb_build_object('k', i % 13) FROM generate_series(1, 3000) i;
CREATE INDEX many_hash ON many USING hash (num);
CREATE INDEX many_gin ON many USING gin (tags);
CREATE INDEX many_doc ON many USING gin (doc);
CREATE INDEX many_gist ON many USING gist (pt);
CREATE INDEX many_spgist ON many USING spgist (pt);
CREATE INDEX many_brin ON many USING brin (id);
CREATE INDEX many_num ON many (num, id);
CREATE TABLE wide (id serial PRIMARY KEY, body text);
ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
CREATE SEQUENCE numbers CACHE 5;
CREATE UNLOGGED TABLE volatile (id int);
CREATE TABLE cut (id int, filler text);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent);
CREATE TABLE shared (id int PRIMARY KEY, n int);
INSERT INTO shared SELECT i, 0 FROM generate_series(1, 20) i;
INSERT INTO parent SELECT generate_series(1, 200);
";

/// Several sessions hold a row while each of them updates it: multixacts.
const SHARED: &str = "\\set id random(1, 20)
BEGIN;
SELECT n FROM shared WHERE id = :id FOR KEY SHARE;
UPDATE shared SET n = n + 1 WHERE id = :id;
COMMIT;
";

/// Where a burst may be held up, so that readers keep up with it.
const PAUSE: &str = "-- a pause\n";

/// One burst of everything; returns when it is committed. `pause` is called between its parts. Bursts are numbered, and none has the number of another, also
/// where the other failed half-way.
///
/// # Errors
/// The server's, or it went away: the burst was made in part.
pub fn burst(writer: &Server, number: u32, pause: impl Fn()) -> Result<(), ProgramError> {
    let in_parts = |text: &str| {
        text.split(PAUSE).try_for_each(|part| {
            writer.run("postgres", part)?;
            pause();
            Ok(())
        })
    };
    // What an earlier burst was interrupted in holds locks.
    let forget = "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \\gexec\n";
    writer.run("postgres", forget)?;
    std::thread::scope(|scope| {
        let bench = scope.spawn(|| {
            let arguments = ["--client=4", "--jobs=1", "--transactions=200", "--no-vacuum", "postgres"];
            writer.succeed("pgbench", &arguments)
        });
        let share = scope.spawn(|| {
            let mut pgbench = writer.client("pgbench");
            pgbench.args(["--client=4", "--jobs=1", "--transactions=50", "--no-vacuum", "--file=-", "postgres"]);
            run(&writer.name, "pgbench", &mut pgbench, SHARED)
        });
        let mixed = in_parts(&mixed(number));
        let joined = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        joined(bench).and(joined(share)).and(mixed)
    })?;
    in_parts(&databases(number))
}

fn mixed(round: u32) -> String {
    let (low, seed) = (3000 + i64::from(round) * 500, round * 7919 + 1);
    format!(
        "
INSERT INTO many SELECT i, (i * {seed}) % 97, repeat(md5(i::text), 3), ARRAY[(i % 7)::int, (i % 11)::int], point(i % 100, i / 100), jsonb_build_object('k', i % 13) FROM generate_series({low} + 1, {low} + 500) i;
UPDATE many SET num = num + 1, tags = tags || {round} WHERE id % 5 = {round} % 5;
DELETE FROM many WHERE id % 11 = {round} % 11;
VACUUM many;
{PAUSE}INSERT INTO wide (body) SELECT repeat(md5(i::text), 200) FROM generate_series(1, 40) i;
DELETE FROM wide WHERE id % 3 = {round} % 3;
SELECT count(nextval('numbers')) FROM generate_series(1, 100);
BEGIN; SELECT setval('numbers', currval('numbers') + 7); COMMIT;
INSERT INTO volatile SELECT generate_series(1, 100);
{PAUSE}INSERT INTO cut SELECT i, repeat('x', 400) FROM generate_series(1, 2000) i;
DELETE FROM cut WHERE id > 100;
VACUUM (TRUNCATE) cut;
INSERT INTO cut SELECT i, repeat('y', 400) FROM generate_series(1, 1000) i;
BEGIN; SAVEPOINT a; INSERT INTO parent VALUES (100000 + {round} * 10); SAVEPOINT b; INSERT INTO parent VALUES (100001 + {round} * 10); ROLLBACK TO b; SAVEPOINT c; INSERT INTO child SELECT id FROM parent LIMIT 20; COMMIT;
BEGIN; SELECT count(*) FROM (SELECT * FROM parent FOR SHARE) s; UPDATE parent SET id = id WHERE id < 50; COMMIT;
BEGIN; UPDATE parent SET id = id WHERE id = 77; PREPARE TRANSACTION 'p{round}'; COMMIT PREPARED 'p{round}';
CREATE TABLE made_{round} AS SELECT i, md5(i::text) AS t FROM generate_series(1, 5000) i;
CREATE INDEX ON made_{round} (t);
ALTER TABLE made_{round} ADD COLUMN extra int DEFAULT 5;
VACUUM FULL made_{round};
{PAUSE}CLUSTER many USING many_pkey;
BEGIN; TRUNCATE wide; INSERT INTO wide (body) SELECT repeat('z', 3000) FROM generate_series(1, 20); COMMIT;
CREATE TABLE gone_{round} AS SELECT generate_series(1, 3000) i;
DROP TABLE gone_{round};
{PAUSE}REINDEX TABLE many;
VACUUM FREEZE pgbench_tellers;
VACUUM FULL pg_class;
{PAUSE}DROP TABLE IF EXISTS made_{old};
DELETE FROM many WHERE id > 3000 AND id <= {low} - 5000;
ANALYZE;
",
        old = round.wrapping_sub(KEPT)
    )
}

fn databases(round: u32) -> String {
    let (last, old) = (round.wrapping_sub(1), round.wrapping_sub(KEPT));
    format!(
        "
CREATE DATABASE logged_{round} STRATEGY wal_log;
{PAUSE}CREATE DATABASE copied_{round} STRATEGY file_copy;
{PAUSE}CREATE TABLESPACE space_{round} LOCATION '';
CREATE TABLE spaced_{round} TABLESPACE space_{round} AS SELECT generate_series(1, 1000) i;
{PAUSE}ALTER DATABASE logged_{round} SET TABLESPACE space_{round};
{PAUSE}DROP DATABASE IF EXISTS copied_{last};
DROP DATABASE IF EXISTS copied_{old};
DROP DATABASE IF EXISTS logged_{old};
DROP TABLE IF EXISTS spaced_{old};
DROP TABLESPACE IF EXISTS space_{old};
\\c copied_{round}
CREATE TABLE here AS SELECT i, repeat('h', 100) FROM generate_series(1, 1000) i;
\\c logged_{round}
CREATE TABLE here AS SELECT i, repeat('h', 100) FROM generate_series(1, 1000) i;
"
    )
}
