-- The functions that clients of Aurora call, of which no extension and no change of PostgreSQL is needed. Run in every
-- database, as the superuser, in one transaction. They are in pg_catalog, where pg_dump leaves them alone: they belong to
-- the instance, not to the database. Each reads what the instance reports in a file beside PGDATA; on a server that is
-- not auriga's (a base backup elsewhere) there is no such file, and they answer nothing.
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;

-- The path is made from what no session can set.
CREATE OR REPLACE FUNCTION pg_catalog.aurora_internal_report() RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_read_file(current_setting('data_directory') || '/../../sql/report.json', 0, 1048576, true)::json
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_version() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT aurora_internal_report() ->> 'version'
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT aurora_internal_report() ->> 'name'
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_replica_status(
  OUT server_id text, OUT session_id text, OUT durable_lsn bigint, OUT highest_lsn_rcvd bigint,
  OUT current_read_lsn bigint, OUT cur_replay_latency_in_usec integer, OUT active_txns integer, OUT is_current boolean,
  OUT last_transport_error integer, OUT last_error_timestamp timestamptz, OUT last_update_timestamp timestamptz,
  OUT feedback_xmin integer, OUT feedback_epoch integer, OUT replica_lag_in_msec double precision,
  OUT log_stream_speed_in_kib_per_second double precision, OUT log_buffer_sequence_number bigint,
  OUT oldest_read_view_trx_id integer, OUT oldest_read_view_lsn bigint, OUT pending_read_ios integer,
  OUT read_ios bigint, OUT iops integer, OUT cpu double precision)
RETURNS SETOF record
LANGUAGE sql VOLATILE ROWS 16 SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.server_id, r.session_id, r.durable_lsn, r.highest_lsn_rcvd, r.current_read_lsn,
         r.cur_replay_latency_in_usec, r.active_txns, r.is_current, r.last_transport_error, r.last_error_timestamp,
         to_timestamp(r.heard_at), r.feedback_xmin, r.feedback_epoch, r.replica_lag_in_msec,
         r.log_stream_speed_in_kib_per_second, r.log_buffer_sequence_number, r.oldest_read_view_trx_id,
         r.oldest_read_view_lsn, r.pending_read_ios, r.read_ios, r.iops, r.cpu
    FROM json_to_recordset(aurora_internal_report() -> 'instances') AS r(
           server_id text, session_id text, durable_lsn bigint, highest_lsn_rcvd bigint, current_read_lsn bigint,
           cur_replay_latency_in_usec integer, active_txns integer, is_current boolean, last_transport_error integer,
           last_error_timestamp timestamptz, heard_at double precision, feedback_xmin integer,
           feedback_epoch integer, replica_lag_in_msec double precision,
           log_stream_speed_in_kib_per_second double precision, log_buffer_sequence_number bigint,
           oldest_read_view_trx_id integer, oldest_read_view_lsn bigint, pending_read_ios integer, read_ios bigint,
           iops integer, cpu double precision)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_global_db_status(
  OUT aws_region text, OUT highest_lsn_written bigint, OUT durability_lag_in_msec bigint, OUT rpo_lag_in_msec bigint,
  OUT last_lag_calculation_time timestamptz, OUT feedback_epoch bigint, OUT feedback_xmin bigint)
RETURNS SETOF record
LANGUAGE sql VOLATILE ROWS 4 SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.aws_region, r.highest_lsn_written, r.lag_ms, r.lag_ms, to_timestamp(r.calculated_at), NULL::bigint, NULL::bigint
    FROM json_to_recordset(aurora_internal_report() -> 'regions') AS r(
           aws_region text, highest_lsn_written bigint, lag_ms bigint, calculated_at double precision)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_global_db_instance_status(
  OUT server_id text, OUT session_id text, OUT aws_region text, OUT durable_lsn bigint, OUT highest_lsn_rcvd bigint,
  OUT feedback_epoch bigint, OUT feedback_xmin bigint, OUT oldest_read_view_lsn bigint,
  OUT visibility_lag_in_msec bigint)
RETURNS SETOF record
LANGUAGE sql VOLATILE ROWS 16 SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.server_id, r.session_id, report.text ->> 'region', r.durable_lsn, r.highest_lsn_rcvd, NULL::bigint,
         NULL::bigint, r.oldest_read_view_lsn, r.visibility_lag_in_msec
    FROM aurora_internal_report() AS report(text), json_to_recordset(report.text -> 'instances') AS r(
           server_id text, session_id text, durable_lsn bigint, highest_lsn_rcvd bigint, oldest_read_view_lsn bigint,
           visibility_lag_in_msec bigint)
   WHERE report.text ->> 'region' IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_show_volume_status(OUT "Disks" integer, OUT "Nodes" integer)
RETURNS SETOF record
LANGUAGE sql VOLATILE ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
  SELECT (v ->> 'disks')::integer, (v ->> 'nodes')::integer FROM (SELECT aurora_internal_report() -> 'volume') AS s(v)
   WHERE json_typeof(v) = 'object'
$$;

-- An estimate, in microseconds: the database's commits, each as long as half of all waits for storage are at most.
CREATE OR REPLACE FUNCTION pg_catalog.aurora_stat_get_db_commit_latency(oid) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_stat_get_db_xact_commit($1) * coalesce((aurora_internal_report() ->> 'commit_p50_micros')::bigint, 0)
$$;

-- Looks at all sessions ten times a second, so short waits are seen by chance only.
CREATE OR REPLACE FUNCTION pg_catalog.aurora_wait_report(
  seconds integer DEFAULT 10, OUT type_name text, OUT event_name text, OUT waits bigint, OUT wait_time double precision,
  OUT ms_per_wait double precision, OUT waits_per_xact double precision, OUT ms_per_xact double precision)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  until timestamptz := clock_timestamp() + make_interval(secs => greatest(seconds, 0));
  seen jsonb := '{}';
  before bigint := (SELECT coalesce(sum(xact_commit), 0) FROM pg_stat_database);
  xacts bigint;
BEGIN
  WHILE clock_timestamp() < until LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT seen || coalesce(jsonb_object_agg(k, coalesce((seen ->> k)::bigint, 0) + n), '{}') INTO seen
      FROM (SELECT wait_event_type || '|' || wait_event AS k, count(*) AS n FROM pg_stat_activity
             WHERE wait_event IS NOT NULL AND wait_event_type <> 'Activity' AND pid <> pg_backend_pid()
             GROUP BY 1) AS now;
    PERFORM pg_sleep(0.1);
  END LOOP;
  PERFORM pg_stat_clear_snapshot();
  xacts := greatest((SELECT coalesce(sum(xact_commit), 0) FROM pg_stat_database) - before, 1);
  RETURN QUERY
    SELECT split_part(key, '|', 1), split_part(key, '|', 2), value::bigint, value::bigint * 100.0::double precision,
           100.0::double precision, value::bigint / xacts::double precision,
           value::bigint * 100.0 / xacts::double precision
      FROM jsonb_each_text(seen) ORDER BY 3 DESC;
END
$$;

-- The instance reads the file, and breaks itself. Whoever calls has logged in as a superuser, or as a member of
-- rds_superuser where there is such a role. (Privileges of the function itself would be in every dump.)
CREATE OR REPLACE FUNCTION pg_catalog.aurora_inject_crash(what text DEFAULT 'instance') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_roles AS r WHERE r.rolname = session_user AND (r.rolsuper OR EXISTS (
      SELECT FROM pg_roles AS s WHERE s.rolname = 'rds_superuser' AND pg_has_role(r.oid, s.oid, 'member'))))
  THEN
    RAISE insufficient_privilege USING MESSAGE = 'permission denied for function aurora_inject_crash';
  END IF;
  IF what IS NULL OR what NOT IN ('instance', 'dispatcher', 'node') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'a crash is of ''instance'', ''dispatcher'' or ''node''';
  END IF;
  IF aurora_internal_report() IS NULL THEN
    RAISE feature_not_supported USING MESSAGE = 'this server is not an instance of auriga';
  END IF;
  EXECUTE format('COPY (SELECT %L) TO %L', what, current_setting('data_directory') || '/../../sql/crash');
  PERFORM pg_sleep(30);
  RETURN 'no crash within 30 s';
END
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_inject_replica_failure(percentage integer, seconds integer, replica text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE feature_not_supported USING MESSAGE = 'not from SQL: use `auriga inject`';
END
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_inject_disk_failure(
  percentage integer, index integer, is_disk boolean, seconds integer)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE feature_not_supported USING MESSAGE = 'not from SQL: use `auriga inject`';
END
$$;

CREATE OR REPLACE FUNCTION pg_catalog.aurora_inject_disk_congestion(
  percentage integer, index integer, is_disk boolean, seconds integer, least_ms double precision,
  most_ms double precision)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE feature_not_supported USING MESSAGE = 'not from SQL: use `auriga inject`';
END
$$;

-- Drivers recognise Aurora by a row of pg_settings. A setting that no module defines is not shown there, so the view shows
-- one row more. Its rules, by which it can be updated, stay.
DO $do$
BEGIN
  SET LOCAL allow_system_table_mods = on;
  EXECUTE format($view$
    CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
    SELECT * FROM pg_catalog.pg_show_all_settings() AS a
    UNION ALL
    SELECT 'rds.extensions'::text, %L::text, NULL::text, 'Customized Options'::text,
           'Extensions that can be created here.'::text, NULL::text, 'internal'::text, 'string'::text, 'default'::text,
           NULL::text, NULL::text, NULL::text[], %1$L::text, %1$L::text, NULL::text, NULL::integer, false
  $view$, (SELECT string_agg(name, ', ' ORDER BY name)
             FROM (SELECT 'aurora_stat_utils' AS name UNION SELECT name FROM pg_available_extensions) AS names));
END
$do$;
