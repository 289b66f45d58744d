//! The scalar backend's KV cache: pages of positions, values rounded to the cache's type when written.
use crate::{CacheSpec, KvType, PAGE, Sequence, math};

/// One layer's cache.
pub struct Cache {
    spec: CacheSpec,
    kv: KvType,
    /// Per page `PAGE` rows of `spec.width()` values: keys, then values. Empty until written.
    pages: Vec<Vec<f32>>,
}

impl Cache {
    /// Room for `pages` pages.
    pub fn new(spec: CacheSpec, kv: KvType, pages: usize) -> Cache {
        Cache { spec, kv, pages: vec![Vec::new(); pages] }
    }

    fn row(&self, s: &Sequence, position: usize) -> &[f32] {
        let width = self.spec.width();
        &self.pages[s.pages[position / PAGE] as usize][position % PAGE * width..][..width]
    }

    /// Writes the key and value of a position.
    pub fn write(&mut self, s: &Sequence, position: usize, k: &[f32], v: Option<&[f32]>) {
        let (width, kv) = (self.spec.width(), self.kv);
        let page = &mut self.pages[s.pages[position / PAGE] as usize];
        page.resize(PAGE * width, 0.0);
        let row = &mut page[position % PAGE * width..][..width];
        for (dst, src) in row.iter_mut().zip(k.iter().chain(v.unwrap_or(&[]))) {
            *dst = match kv {
                KvType::F32 => *src,
                KvType::F16 => math::f16_to_f32(math::f32_to_f16(*src)),
            };
        }
    }

    /// The key of `head` at a position.
    pub fn key(&self, s: &Sequence, position: usize, head: usize) -> &[f32] {
        &self.row(s, position)[head * self.spec.k_dim..][..self.spec.k_dim]
    }

    /// The value of `head` at a position, or the start of its key where values are a prefix of keys.
    pub fn value(&self, s: &Sequence, position: usize, head: usize) -> &[f32] {
        match self.spec.v_dim {
            None => self.key(s, position, head),
            Some(v) => &self.row(s, position)[self.spec.kv_heads * self.spec.k_dim + head * v..][..v],
        }
    }
}
