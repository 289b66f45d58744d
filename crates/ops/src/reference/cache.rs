//! The scalar backend's KV cache: pages of positions, values rounded to the cache's type when written.
use crate::{CacheSpec, KvType, PAGE, Sequence, math};
use pondera_quant::Q8;

/// One layer's cache.
pub struct Cache {
    spec: CacheSpec,
    kv: KvType,
    /// Per page `PAGE` rows of `spec.width()` values (keys, then values; codes where the type has scales) and their
    /// `spec.vectors()` scales. Empty until written.
    pages: Vec<Vec<f32>>,
}

impl Cache {
    /// Room for `pages` pages.
    pub fn new(spec: CacheSpec, kv: KvType, pages: usize) -> Cache {
        Cache { spec, kv, pages: vec![Vec::new(); pages] }
    }

    /// What is stored; empty pages were never written.
    pub fn pages(&self) -> &[Vec<f32>] {
        &self.pages
    }

    /// Page `to` holds what page `from` does.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        self.pages[to] = self.pages[from].clone();
    }

    /// Values and scales of a position.
    fn row(&self, s: &Sequence, position: usize) -> (&[f32], &[f32]) {
        let width = self.spec.width() + self.spec.vectors();
        self.pages[s.pages[position / PAGE] as usize][position % PAGE * width..][..width].split_at(self.spec.width())
    }

    /// Writes the key and value of a position.
    pub fn write(&mut self, s: &Sequence, position: usize, k: &[f32], v: Option<&[f32]>) {
        let (width, kv) = (self.spec.width() + self.spec.vectors(), self.kv);
        let page = &mut self.pages[s.pages[position / PAGE] as usize];
        page.resize(PAGE * width, 0.0);
        let (row, scales) = page[position % PAGE * width..][..width].split_at_mut(self.spec.width());
        let keys = k.chunks_exact(self.spec.k_dim);
        let values = v.map_or([].chunks_exact(1), |v| v.chunks_exact(self.spec.v_dim.unwrap_or(1)));
        let mut row = row.iter_mut();
        for (x, scale) in keys.chain(values).zip(scales) {
            *scale = 1.0;
            match kv {
                KvType::F32 => x.iter().zip(&mut row).for_each(|(x, to)| *to = *x),
                KvType::F16 => x.iter().zip(&mut row).for_each(|(x, to)| *to = math::f16_to_f32(math::f32_to_f16(*x))),
                KvType::Q8 => {
                    let mut codes = vec![0; x.len()];
                    *scale = Q8::codes(x, &mut codes);
                    codes.iter().zip(&mut row).for_each(|(q, to)| *to = f32::from(*q));
                }
            }
        }
    }

    /// The key of `head` at a position, and what its product is multiplied with: 1 where the type has no scales.
    pub fn key(&self, s: &Sequence, position: usize, head: usize) -> (&[f32], f32) {
        let (row, scales) = self.row(s, position);
        (&row[head * self.spec.k_dim..][..self.spec.k_dim], scales[head])
    }

    /// The value of `head` at a position, or the start of its key where values are a prefix of keys; and its factor.
    pub fn value(&self, s: &Sequence, position: usize, head: usize) -> (&[f32], f32) {
        let (row, scales) = self.row(s, position);
        match self.spec.v_dim {
            None => self.key(s, position, head),
            Some(v) => {
                let at = self.spec.kv_heads * self.spec.k_dim + head * v;
                (&row[at..][..v], scales[self.spec.kv_heads + head])
            }
        }
    }
}
