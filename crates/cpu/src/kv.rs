//! Storage of the KV cache, laid out for the attention kernels, in pages of [`PAGE`] positions.
//!
//! ```text
//! keys and values   per head keys [k_dim][PAGE], then per head values [PAGE][v_pad]
//! latent (MLA)      per head [PAGE][k_pad]; values are the first columns
//! scales (q8)       per head [PAGE] of keys, then per head [PAGE] of values, f32
//! ```
//! Scores then vectorise over positions and values over columns, both by the same tiles as a matrix product. Pages take
//! memory when they are first written. Elements are rounded to the cache's type when written.
use crate::{
    gemm::STRIP,
    memory::Memory,
    product::{Engine, Ptr},
    quantize::codes,
    simd::Level,
    vmath,
};
use pondera_ops::{CACHE_ROW, CacheSpec, KvType, PAGE};
use std::{
    alloc::{Layout, handle_alloc_error},
    ops::Range,
    ptr, slice,
    sync::Arc,
};

/// One layer's cache.
pub struct Cache {
    /// Its shape.
    pub spec: CacheSpec,
    /// Element type.
    pub kv: KvType,
    /// Null until written.
    pages: Vec<*mut u8>,
    /// What they lie in: huge pages where there are any, shared by all layers.
    memory: Arc<Memory>,
}

// SAFETY: the pages are its own memory; they are written through `&mut self` alone.
unsafe impl Sync for Cache {}

impl Cache {
    /// Room for `pages` pages, none of them in memory yet.
    pub fn new(spec: CacheSpec, kv: KvType, pages: usize, memory: &Arc<Memory>) -> Cache {
        Cache { spec, kv, pages: vec![ptr::null_mut(); pages], memory: memory.clone() }
    }

    /// Elements from a value (or latent row) to the next position's.
    pub fn row_pad(&self) -> usize {
        const { assert!(CACHE_ROW == STRIP, "the memory that is planned is that which is taken") };
        self.spec.row()
    }

    /// Bytes of the pages that were written.
    pub fn held(&self) -> u64 {
        self.pages.iter().filter(|p| !p.is_null()).count() as u64 * self.page_bytes() as u64
    }

    /// Bytes of a page without its scales.
    fn values_bytes(&self) -> usize {
        let keys = if self.spec.v_dim.is_some() { self.spec.k_dim } else { 0 };
        self.spec.kv_heads * PAGE * (keys + self.row_pad()) * self.kv.bytes()
    }

    fn page_bytes(&self) -> usize {
        let scales = if self.kv == KvType::Q8 { self.spec.vectors() * PAGE * size_of::<f32>() } else { 0 };
        self.values_bytes() + scales
    }

    /// Byte offset of the scales of a head's keys, or of its values, in its page.
    fn scales_at(&self, head: usize, value: bool) -> usize {
        let vector = if value && self.spec.v_dim.is_some() { self.spec.kv_heads + head } else { head };
        self.values_bytes() + vector * PAGE * size_of::<f32>()
    }

    /// Scales `[PAGE]` of the keys and of the values (or latents) of a head; none where the type has none.
    pub fn scales(&self, page: usize, head: usize) -> Option<[&[f32]; 2]> {
        let of = |value| {
            let bytes = &self.bytes(page)[self.scales_at(head, value)..][..PAGE * size_of::<f32>()];
            // SAFETY: lines are aligned, so are parts of whole lines; any bits are floats.
            unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), PAGE) }
        };
        (self.kv == KvType::Q8).then(|| [of(false), of(true)])
    }

    /// Byte offset of the keys (`[k_dim][PAGE]`) of a head in its page.
    fn keys_at(&self, head: usize) -> usize {
        head * self.spec.k_dim * PAGE * self.kv.bytes()
    }

    /// Byte offset of the value rows of a head in its page.
    fn rows_at(&self, head: usize) -> usize {
        let keys = if self.spec.v_dim.is_some() { self.spec.kv_heads * self.spec.k_dim } else { 0 };
        (keys + head * self.row_pad()) * PAGE * self.kv.bytes()
    }

    /// Start of the keys `[k_dim][PAGE]` of a head.
    pub fn keys(&self, page: usize, head: usize) -> *const u8 {
        let at = self.keys_at(head);
        self.bytes(page)[at..].as_ptr()
    }

    /// Start of the value (or latent) rows `[PAGE][row_pad]` of a head.
    pub fn rows(&self, page: usize, head: usize) -> *const u8 {
        let at = self.rows_at(head);
        self.bytes(page)[at..].as_ptr()
    }

    /// Where the keys of a head (or its latents) lie, and how many bytes they take, to be asked for ahead.
    pub fn keys_ahead(&self, page: usize, head: usize) -> (*const u8, usize) {
        if self.spec.v_dim.is_none() {
            return self.rows_ahead(page, head, 0..PAGE);
        }
        (self.pages[page].wrapping_add(self.keys_at(head)), PAGE * self.spec.k_dim * self.kv.bytes())
    }

    /// The same of its values or latents at the positions `seen` of the page.
    pub fn rows_ahead(&self, page: usize, head: usize, seen: Range<usize>) -> (*const u8, usize) {
        let row = self.row_pad() * self.kv.bytes();
        (self.pages[page].wrapping_add(self.rows_at(head) + seen.start * row), seen.len() * row)
    }

    fn bytes(&self, page: usize) -> &[u8] {
        let page = self.pages[page];
        assert!(!page.is_null(), "a page is read that was never written");
        // SAFETY: taken with this length from memory that this value holds; written only by `write`, which has it alone.
        unsafe { slice::from_raw_parts(page, self.page_bytes()) }
    }

    /// Takes memory for a page.
    pub fn touch(&mut self, page: usize) {
        if self.pages[page].is_null() {
            let bytes = self.page_bytes().max(1);
            let layout = Layout::array::<u8>(bytes).expect("a page fits into the address space");
            self.pages[page] = self.memory.take(bytes).unwrap_or_else(|| handle_alloc_error(layout));
        }
    }

    /// Page `to` holds what page `from` does, which was written before.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        assert!(from != to, "a page is copied to itself");
        self.touch(to);
        let (bytes, to) = (self.bytes(from), self.pages[to]);
        // SAFETY: both are this long, and pages do not overlap; this value is held alone, so nobody reads `to`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Writes `rows` keys `[rows, kv_heads · k_dim]` and values `[rows, kv_heads · v_dim]`; `place` gives each row's page
    /// and position within it.
    pub fn write(
        &mut self,
        engine: &Engine,
        rows: usize,
        place: &(dyn Fn(usize) -> (usize, usize) + Sync),
        k: &[f32],
        v: Option<&[f32]>,
    ) {
        (0..rows).for_each(|r| self.touch(place(r).0));
        let (heads, k_dim) = (self.spec.kv_heads, self.spec.k_dim);
        let v_dim = self.spec.v_dim.unwrap_or(0);
        assert!(k.len() == rows * heads * k_dim && v.map_or(0, <[f32]>::len) == rows * heads * v_dim);
        let pages = Ptr(self.pages.as_mut_ptr());
        let (this, kv, level) = (&*self, self.kv, engine.level);
        // Heads are shared out: their places are disjoint.
        engine.rows(heads, rows * (k_dim + v_dim), &|head| {
            for r in 0..rows {
                let (page, slot) = place(r);
                let key = &k[(r * heads + head) * k_dim..][..k_dim];
                // SAFETY: the page was touched and holds `page_bytes()`, of which these are this head's.
                unsafe {
                    let base = *pages.get().add(page);
                    let row = base.add(this.rows_at(head) + slot * this.row_pad() * kv.bytes());
                    // Past the page's end, and unused, where the type has none.
                    let scale = |value| base.wrapping_add(this.scales_at(head, value)).cast::<f32>().wrapping_add(slot);
                    match v {
                        None => put_row(level, kv, key, row, scale(false)),
                        Some(v) => {
                            put_column(level, kv, key, base.add(this.keys_at(head)), slot, scale(false));
                            put_row(level, kv, &v[(r * heads + head) * v_dim..][..v_dim], row, scale(true));
                        }
                    }
                }
            }
        });
    }
}

/// Elements side by side.
unsafe fn put_row(level: Level, kv: KvType, src: &[f32], dst: *mut u8, scale: *mut f32) {
    // SAFETY: the caller's promise: room for the elements, at their alignment, and for a scale where there are any.
    unsafe {
        match kv {
            KvType::Q8 => *scale = codes(level, src, slice::from_raw_parts_mut(dst.cast(), src.len())),
            KvType::F32 => std::ptr::copy_nonoverlapping(src.as_ptr(), dst.cast(), src.len()),
            KvType::F16 => vmath::halves(level, src, slice::from_raw_parts_mut(dst.cast(), src.len())),
        }
    }
}

/// Elements [`PAGE`] apart, at `slot` of each run.
unsafe fn put_column(level: Level, kv: KvType, src: &[f32], dst: *mut u8, slot: usize, scale: *mut f32) {
    /// Widest key whose codes need no memory from the heap.
    const WIDE: usize = 512;
    // SAFETY: the caller's promise.
    unsafe {
        match kv {
            KvType::Q8 => {
                let (mut few, mut many) = ([0i8; WIDE], Vec::new());
                let q = match few.get_mut(..src.len()) {
                    Some(q) => q,
                    None => {
                        many.resize(src.len(), 0);
                        &mut many[..]
                    }
                };
                *scale = codes(level, src, q);
                q.iter().enumerate().for_each(|(i, q)| *dst.cast::<i8>().add(i * PAGE + slot) = *q);
            }
            KvType::F32 => {
                let dst = dst.cast::<f32>().add(slot);
                src.iter().enumerate().for_each(|(i, v)| *dst.add(i * PAGE) = *v);
            }
            KvType::F16 => {
                let dst = dst.cast::<u16>().add(slot);
                let mut half = [0u16; 64];
                for (c, src) in src.chunks(64).enumerate() {
                    vmath::halves(level, src, &mut half[..src.len()]);
                    half[..src.len()].iter().enumerate().for_each(|(i, h)| *dst.add((c * 64 + i) * PAGE) = *h);
                }
            }
        }
    }
}
