use super::*;
use alloc::vec;
use proptest::prelude::*;

fn image(bytes: &[u8]) -> PageImage {
    PageImage::new(Bytes::copy_from_slice(bytes)).expect("a page")
}

fn applied(delta: &Delta, old: &[u8]) -> PageImage {
    let mut page = image(old);
    delta.apply(&mut page);
    page
}

/// Pages like PostgreSQL's: mostly zeros, some runs of data.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let run = (0..PAGE_SIZE, proptest::collection::vec(any::<u8>(), 0..600));
    proptest::collection::vec(run, 0..24).prop_map(|runs| {
        let mut page = vec![0; PAGE_SIZE];
        for (at, run) in runs {
            let end = (at + run.len()).min(PAGE_SIZE);
            page[at..end].copy_from_slice(&run[..end - at]);
        }
        page
    })
}

proptest! {
    #[test]
    fn applying_the_difference_makes_the_new_page(old in page(), new in page(), edits in proptest::collection::vec((0..PAGE_SIZE, any::<u8>()), 0..40)) {
        let mut edited = old.clone();
        edits.iter().for_each(|(at, byte)| edited[*at] = *byte);
        for new in [&new, &edited] {
            match Delta::between(&old, new) {
                None => prop_assert_eq!(&old, new),
                Some(delta) => {
                    prop_assert!(delta.len() <= DELTA_MAX);
                    prop_assert_eq!(applied(&delta, &old), image(new));
                    prop_assert!(delta.may_clear() || !is_zero(new));
                    prop_assert_eq!(Delta::from_bytes(&delta.0), Ok(delta));
                }
            }
            let full = Delta::full(new);
            prop_assert_eq!(full.may_clear(), is_zero(new));
            prop_assert_eq!(applied(&full, &old), image(new));
            prop_assert_eq!(Delta::from_bytes(&full.0), Ok(full));
        }
    }

    #[test]
    fn malformed_bytes_are_refused_or_apply(tag in 0..4u8, body in proptest::collection::vec(0..6u8, 0..64), old in page()) {
        let mut bytes = vec![tag];
        bytes.extend(body);
        if let Ok(delta) = Delta::from_bytes(&bytes) {
            applied(&delta, &old);
        }
    }

    #[test]
    fn serialised_deltas_are_checked_too(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let encoded = postcard::to_allocvec(&Bytes::from(bytes.clone())).expect("encodes");
        let decoded = postcard::from_bytes::<Delta>(&encoded).ok();
        prop_assert_eq!(decoded, Delta::from_bytes(&bytes).ok());
    }
}

#[test]
fn long_deltas_are_packed_and_say_so() {
    let text: Vec<u8> = (0..PAGE_SIZE).map(|at| b"a row of a table, "[at % 18] + (at / 900) as u8).collect();
    let delta = Delta::between(&[], &text).expect("differs");
    assert!(delta.is_packed() && delta.len() < PAGE_SIZE / 4 && !delta.may_clear());
    assert_eq!(applied(&delta, &[7; PAGE_SIZE]), image(&text));
    let (mut old, mut new) = (vec![9; PAGE_SIZE], vec![9; PAGE_SIZE]);
    new[100..4000].copy_from_slice(&text[..3900]);
    let patch = Delta::between(&old, &new).expect("differs");
    assert!(patch.is_packed());
    (old[0], new[0]) = (1, 1);
    assert_eq!(applied(&patch, &old), image(&new), "it touches nothing else");
    for delta in [delta, patch] {
        assert_eq!(Delta::from_bytes(&delta.0).as_ref(), Ok(&delta));
        for length in 0..delta.len() {
            assert!(Delta::from_bytes(&delta.0[..length]).is_err(), "{length} bytes of it");
        }
    }
}

#[test]
fn what_only_sets_zeros_is_not_packed_and_packed_it_is_refused() {
    let (old, mut new) = ([9; PAGE_SIZE], [9; PAGE_SIZE]);
    new[0..2000].fill(0);
    let zeros = Delta::between(&old, &new).expect("differs");
    assert!(!zeros.is_packed() && zeros.may_clear());
    let refused = |bytes: &[u8]| {
        let packed = pack(PACKED, bytes).expect("much shorter");
        assert_eq!(Delta::from_bytes(&packed), Err(MalformedPage::Packed(packed.len())));
    };
    refused(&zeros.0);
    refused(&[PACKED; 2000]);
    refused(&[FULL; 2000]);
}

#[test]
fn random_noise_becomes_one_full_image() {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (state >> 33) as u8 | 1
    };
    let (old, new): (Vec<u8>, Vec<u8>) = (0..PAGE_SIZE).map(|_| (noise() & 2, noise())).unzip();
    let delta = Delta::between(&old, &new).expect("differs");
    assert_eq!(delta.len(), DELTA_MAX);
    assert_eq!(applied(&delta, &old), image(&new));
}

#[test]
fn a_page_reset_to_little_content_costs_that_content() {
    let old = vec![0xAB; PAGE_SIZE];
    let mut new = vec![0; PAGE_SIZE];
    new[..24].fill(0x11);
    let delta = Delta::between(&old, &new).expect("differs");
    assert_eq!(delta.len(), 1 + PATCH_HEADER + 24);
    assert_eq!(applied(&delta, &old), image(&new));
    assert_eq!(Delta::between(&old, &[]), Some(Delta::zero()));
    assert!(applied(&Delta::zero(), &old).is_zero());
    assert!(Delta::zero().may_clear());
}

#[test]
fn a_delta_within_touches_nothing_else() {
    let (old, mut new) = ([3; 40], [3; 40]);
    assert_eq!(Delta::within(8152, &old, &new), None);
    new[10] = 4;
    new[39] = 5;
    let delta = Delta::within(8152, &old, &new).expect("differs");
    assert_eq!(delta.len(), 1 + PATCH_HEADER + 30);
    let page = applied(&delta, &[9; PAGE_SIZE]);
    assert_eq!(page.content()[..8162], [9; 8162]);
    assert_eq!(page.content()[8162..], new[10..]);
}

#[test]
fn pages_of_a_wrong_length_are_refused() {
    assert_eq!(PageImage::new(Bytes::from_static(&[1])), Err(MalformedPage::PageLength(1)));
    let encoded = postcard::to_allocvec(&Bytes::from(vec![1; PAGE_SIZE - 1])).expect("encodes");
    assert!(postcard::from_bytes::<PageImage>(&encoded).is_err());
    assert!(image(&[0; PAGE_SIZE]).is_zero());
}

#[test]
fn a_shared_page_is_copied_not_changed() {
    let old = image(&[7; PAGE_SIZE]);
    let mut new = old.clone();
    Delta::full(&[8; PAGE_SIZE]).apply(&mut new);
    Delta::between(&[8; PAGE_SIZE], &[9; PAGE_SIZE]).expect("differs").apply(&mut new);
    assert_eq!(old.content(), [7; PAGE_SIZE]);
    assert_eq!(new.content(), [9; PAGE_SIZE]);
}
