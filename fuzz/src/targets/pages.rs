//! Pages and changes of pages, packed or not, as they come from peers and disks.

use super::Target;
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::Payload;
use bytes::Bytes;

/// An input is a page or a delta; its first byte says which.
pub struct Pages;

/// A page of text: it can be packed.
fn content(byte: u8) -> [u8; PAGE_SIZE] {
    let mut content = [0; PAGE_SIZE];
    for (at, place) in content.iter_mut().enumerate().skip(64).take(4000) {
        *place = byte.wrapping_add((at % 7) as u8);
    }
    content
}

/// A delta's bytes: what is sent of it, without the length.
fn bytes_of(delta: &Delta) -> Vec<u8> {
    let sent = postcard::to_allocvec(delta).expect("its length is known");
    sent[sent.len() - delta.len()..].to_vec()
}

impl Target for Pages {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let (old, new) = (content(1), content(2));
        let mut small = old;
        small[100..108].copy_from_slice(b"changed!");
        let image = PageImage::copy_from(&old);
        let deltas =
            [Delta::between(&old, &small), Delta::between(&old, &new), Some(Delta::full(&new)), Some(Delta::zero())];
        let mut corpus = vec![[&[0][..], image.stored()].concat(), [&[0][..], &old].concat()];
        corpus.extend(deltas.into_iter().flatten().map(|delta| [&[1][..], &bytes_of(&delta)].concat()));
        corpus
    }

    fn run(&mut self, input: &[u8]) -> String {
        let Some((which, bytes)) = input.split_first() else { return "nothing".into() };
        if which % 2 == 0 {
            return match PageImage::new(Bytes::copy_from_slice(bytes)) {
                Ok(image) => format!("a page, zero: {}, {}", image.is_zero(), image.content().len()),
                Err(error) => error.to_string(),
            };
        }
        match Delta::from_bytes(bytes) {
            Ok(delta) => {
                let mut page = PageImage::copy_from(&content(3));
                delta.apply(&mut page);
                format!("a delta, packed: {}, {}", delta.is_packed(), page.is_zero())
            }
            Err(error) => error.to_string(),
        }
    }
}
