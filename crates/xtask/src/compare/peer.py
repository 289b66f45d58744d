"""Serves measurements of llama-cpp-python's library: one JSON request a line on stdin, one JSON answer a line."""
import ctypes, json, resource, sys, time
import llama_cpp as L

LOG = L.llama_log_callback(lambda level, text, data: None)  # kept: the library calls it until the end


class Peer:
    def __init__(self, r):
        start = time.perf_counter()
        m = L.llama_model_default_params()
        m.use_extra_bufts, m.n_gpu_layers = r["repack"], 0
        self.model = L.llama_load_model_from_file(r["model"].encode(), m)
        assert self.model, "cannot load " + r["model"]
        self.load = time.perf_counter() - start
        self.threads = r["threads"]
        self.vocab = L.llama_n_vocab(L.llama_model_get_vocab(self.model))
        self.context = None
        self.shape = None

    def ready(self, tokens, seqs, fa):
        """A context for `seqs` sequences of `tokens`, the one at hand if it is the same."""
        shape = (-(-(tokens + 2) // 256) * 256, seqs, fa)
        if self.shape != shape:
            if self.context:
                L.llama_free(self.context)
            c = L.llama_context_default_params()
            c.n_ctx, c.n_seq_max = shape[0] * seqs, seqs
            c.n_batch = c.n_ubatch = 512
            c.n_threads = c.n_threads_batch = self.threads
            c.flash_attn_type = int(fa)
            c.no_perf = True
            self.context = L.llama_init_from_model(self.model, c)
            assert self.context, "no context"
            self.memory = L.llama_get_memory(self.context)
            self.batch = L.llama_batch_init(512, 0, 1)
            self.shape, self.held = shape, 0

    def feed(self, rows):
        """Rows of (token, position, sequence, wants logits)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, pos, seq, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, pos, 1, logits
            b.seq_id[i][0] = seq
        assert L.llama_decode(self.context, b) == 0, "llama_decode failed"

    def token(self, i, s=0):
        return (i * 7919 + s * 104729) % self.vocab

    def prompt(self, first, n, s):
        for a in range(first, first + n, 512):
            e = min(a + 512, first + n)
            self.feed([(self.token(i + 1, s), i, s, i + 1 == first + n) for i in range(a, e)])
        L.llama_synchronize(self.context)

    def reach(self, depth, seqs):
        """Exactly `depth` tokens in each sequence's cache."""
        if self.held != depth or depth == 0:
            L.llama_memory_clear(self.memory, True)
            for s in range(seqs):
                self.prompt(0, depth, s)
            self.held = depth
        else:
            for s in range(seqs):
                L.llama_memory_seq_rm(self.memory, s, depth, -1)

    def prefill(self, n, depth=0, fa=True, seqs=1):
        self.ready(depth + n, 1, fa)
        self.reach(depth, 1)
        start = time.perf_counter()
        self.prompt(depth, n, 0)
        return n / (time.perf_counter() - start)

    def decode(self, n, depth=0, fa=True, seqs=1):
        depth = max(depth, 1)
        self.ready(depth + n, seqs, fa)
        self.reach(depth, seqs)
        start = time.perf_counter()
        for i in range(depth, depth + n):
            self.feed([(self.token(i + 1, s), i, s, True) for s in range(seqs)])
            L.llama_synchronize(self.context)
            L.llama_get_logits_ith(self.context, 0)[0]
        return n * seqs / (time.perf_counter() - start)


def main():
    L.llama_log_set(LOG, ctypes.c_void_p(0))
    L.llama_backend_init()
    peer = None
    for line in sys.stdin:
        r = json.loads(line)
        op = r.pop("op")
        if op == "open":
            peer = Peer(r)
            answer = {"load_s": peer.load, "version": L.__version__, "system": L.llama_print_system_info().decode()}
        else:
            answer = {"tps": getattr(peer, op)(**r)}
        answer["rss_peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(answer), flush=True)


main()
