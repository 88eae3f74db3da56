//! Payloads of several messages as one: those that run together.
//!
//! The stream holds for each of them the lengths of its area, of its stream and of its buffers, as numbers of eight bytes
//! behind their count, and then its area. The reader copies each area: it lies at no particular address.

use std::sync::Arc;

use super::{Area, Packer, Parcel, Payload};
use crate::store::Store;

impl Payload {
    /// These as one, in `store` where they are large: [`Parcel::apart`] takes them apart. One that there is no memory for
    /// is empty.
    #[must_use]
    pub fn together<'a>(
        payloads: impl IntoIterator<Item = &'a Self>,
        store: Option<Arc<Store>>,
    ) -> Self {
        let mut packer = Packer::new(store);
        let mut copy = Vec::new();
        for payload in payloads {
            copy.clear();
            let area = match &payload.area {
                Area::Memory(bytes) => bytes,
                Area::Block { block, len } => {
                    if !block.copy_out(*len, &mut copy) {
                        copy.clear();
                    }
                    &copy
                }
                Area::Detached { .. } => &copy,
            };
            let numbers = [
                area.len() as u64,
                payload.stream_len(),
                payload.buffers.len() as u64,
            ];
            for number in numbers.iter().chain(&*payload.buffers) {
                packer.write(&number.to_le_bytes());
            }
            packer.write(area);
        }
        packer.finish()
    }
}

impl Parcel {
    /// The parcels of what [`Payload::together`] made. None: it is no such thing, or there is no memory for them.
    #[must_use]
    pub fn apart(&self) -> Option<Vec<Self>> {
        let stream = self.stream();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(stream.len()).ok()?;
        bytes.resize(stream.len(), 0);
        if !stream.copy_to(&mut bytes) {
            return None;
        }
        let mut rest = &bytes[..];
        let mut parcels = Vec::new();
        while !rest.is_empty() {
            let area_len = usize::try_from(number(&mut rest)?).ok()?;
            let stream_len = number(&mut rest)?;
            let count = number(&mut rest)?;
            // Each takes eight bytes, so a false count ends soon.
            let mut buffers = Vec::new();
            for _ in 0..count {
                buffers.push(number(&mut rest)?);
            }
            let area;
            (area, rest) = rest.split_at_checked(area_len)?;
            parcels.push(Self::own(area, stream_len, buffers.into_iter())?);
        }
        Some(parcels)
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    fn payload(stream: &[u8], buffers: &[&[u8]]) -> Payload {
        let mut packer = Packer::new(None);
        packer.write(stream);
        for buffer in buffers {
            packer.buffer(buffer);
        }
        packer.finish()
    }

    #[test]
    fn payloads_come_apart_as_they_were() {
        let made = [
            payload(b"first", &[]),
            payload(b"", &[]),
            payload(b"second", &[b"buffer", &[7; 100]]),
        ];
        let apart = Payload::together(&made, None)
            .to_parcel()
            .apart()
            .expect("three");
        assert_eq!(apart.len(), 3);
        for (parcel, payload) in apart.iter().zip(&made) {
            assert_eq!(parcel.stream().len() as u64, payload.stream_len());
            assert_eq!(parcel.buffers(), payload.buffers().len());
        }
        let mut buffer = [0; 100];
        assert!(apart[2].copy_to(1, &mut buffer));
        assert_eq!(buffer, [7; 100]);
    }

    #[test]
    fn nonsense_does_not_come_apart() {
        for stream in [&b"short"[..], &[255; 64], &[0; 23]] {
            assert!(payload(stream, &[]).to_parcel().apart().is_none());
        }
    }
}
