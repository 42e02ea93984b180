//! Compares what the clients remember with what the database shows.

use super::ledger::{Ledger, Outcome, Outcomes};
use super::{ACCOUNTS, INITIAL_BALANCE};
use auriga_admin::postgres::connect;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What was found. Anything but zero in the last three is a failure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Commits that were acknowledged before the comparison began.
    pub acknowledged: u64,
    /// Transactions in doubt that are in the database: allowed.
    pub in_doubt_committed: u64,
    /// Acknowledged, and not in the database.
    pub lost: u64,
    /// In the database, and refused or never asked for.
    pub unexplained: u64,
    /// Accounts whose balance is not what the ledger's rows make it, plus 1 if the sum of all balances has changed.
    pub wrong_balances: u64,
}

impl Verdict {
    /// Adds what was found elsewhere that is a failure.
    pub fn add(&mut self, other: &Verdict) {
        self.lost += other.lost;
        self.unexplained += other.unexplained;
        self.wrong_balances += other.wrong_balances;
    }

    /// Whether nothing is lost and everything is explained.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexplained == 0 && self.wrong_balances == 0
    }
}

/// Compares, under load or at rest, within one snapshot of the database.
///
/// # Errors
/// PostgreSQL's.
pub async fn verify(server: SocketAddr, ledger: &Ledger) -> Result<Verdict, tokio_postgres::Error> {
    verify_from(server, ledger, &ledger.outcomes()).await
}

/// The same, of a server that shows what was acknowledged when `before` was copied from the ledger.
///
/// # Errors
/// PostgreSQL's.
pub async fn verify_from(
    server: SocketAddr,
    ledger: &Ledger,
    before: &Outcomes,
) -> Result<Verdict, tokio_postgres::Error> {
    // What is acknowledged before the snapshot must be in it; what is in it must have been begun before the end.
    let mut client = connect(server).await?;
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let rows = transaction.query("select client, seq from ledger", &[]).await?;
    let present = rows.iter().map(|row| (row.get::<_, i32>(0) as usize, row.get::<_, i64>(1) as usize));
    let balances = transaction
        .query_one(
            &format!(
                "with net as (
                   select account, sum(change) as net from (
                     select debit as account, -amount as change from ledger
                     union all select credit, amount from ledger) changes group by account)
                 select count(*) filter (where balance <> {INITIAL_BALANCE} + coalesce(net, 0)),
                        (coalesce(sum(balance), 0) <> {INITIAL_BALANCE}::bigint * {ACCOUNTS})::int::bigint
                 from bank left join net using (account)"
            ),
            &[],
        )
        .await?;
    transaction.commit().await?;
    let mut verdict = compare(before, &ledger.outcomes(), present);
    verdict.wrong_balances = (balances.get::<_, i64>(0) + balances.get::<_, i64>(1)) as u64;
    Ok(verdict)
}

/// Commits that were acknowledged when `before` was copied from the ledger, and that a server does not show: by client and
/// sequence number.
///
/// # Errors
/// PostgreSQL's.
pub async fn missing(server: SocketAddr, before: &Outcomes) -> Result<Vec<(usize, usize)>, tokio_postgres::Error> {
    let rows = connect(server).await?.query("select client, seq from ledger", &[]).await?;
    let present = rows.iter().map(|row| (row.get::<_, i32>(0) as usize, row.get::<_, i64>(1) as usize));
    let present: BTreeSet<(usize, usize)> = present.collect();
    let all = before.iter().enumerate().flat_map(|(client, outcomes)| {
        let acknowledged = outcomes.iter().enumerate().filter(|(_, outcome)| **outcome == Outcome::Acknowledged);
        acknowledged.map(move |(seq, _)| (client, seq))
    });
    Ok(all.filter(|which| !present.contains(which)).collect())
}

fn compare(before: &Outcomes, after: &Outcomes, present: impl Iterator<Item = (usize, usize)>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut seen: Vec<Vec<bool>> = after.iter().map(|outcomes| vec![false; outcomes.len()]).collect();
    for (client, seq) in present {
        match after.get(client).and_then(|outcomes| outcomes.get(seq)) {
            Some(Outcome::Acknowledged) => {}
            Some(Outcome::InDoubt) => verdict.in_doubt_committed += 1,
            Some(Outcome::Refused | Outcome::Lost) | None => {
                verdict.unexplained += 1;
                continue;
            }
        }
        seen[client][seq] = true;
    }
    for (client, outcomes) in before.iter().enumerate() {
        for (seq, outcome) in outcomes.iter().enumerate() {
            if *outcome == Outcome::Acknowledged {
                verdict.acknowledged += 1;
                verdict.lost += u64::from(!seen[client][seq]);
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Acknowledged, InDoubt, Lost, Refused};

    #[test]
    fn each_way_to_go_wrong_is_seen() {
        let before = vec![vec![Acknowledged, Acknowledged, InDoubt, Refused]];
        let after = vec![vec![Acknowledged, Acknowledged, InDoubt, Refused, InDoubt]];
        let verdict = |present: &[usize]| compare(&before, &after, present.iter().map(|&seq| (0, seq)));
        assert!(verdict(&[0, 1]).is_clean(), "in doubt and absent is allowed");
        assert_eq!(verdict(&[0, 1, 2, 4]).in_doubt_committed, 2);
        assert_eq!(verdict(&[0]).lost, 1);
        assert_eq!(verdict(&[0, 1, 3]).unexplained, 1, "refused, and there");
        assert_eq!(verdict(&[0, 1, 9]).unexplained, 1, "never asked for, and there");
        assert_eq!(compare(&before, &after, [(7, 0)].into_iter()).unexplained, 1, "no such client");
        let left = vec![vec![Lost]];
        assert!(compare(&left, &left, std::iter::empty()).is_clean(), "it was said to be lost");
        assert_eq!(compare(&left, &left, [(0, 0)].into_iter()).unexplained, 1, "lost, and there");
    }

    #[test]
    fn what_is_acknowledged_only_after_the_snapshot_began_need_not_be_in_it() {
        let before = vec![vec![InDoubt]];
        let after = vec![vec![Acknowledged]];
        assert!(compare(&before, &after, std::iter::empty()).is_clean());
    }
}
