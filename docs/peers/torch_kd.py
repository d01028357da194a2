"""A student's word-level distillation step in plain PyTorch, tuned: a peer for ``seqkd bench``.

    seqkd bench --against 'python docs/peers/torch_kd.py --turns'

Prints a JSON line, as the others here do. The work is that of the row ``kd-student-b64``: a
student of 1 x 128 learns 0.5 nll + 0.5 cross-entropy to a teacher of 2 x 512, whose forward pass
is part of the step; 64 sentences of 16 + 16 tokens without padding, Adam 1e-3, clipping at 5. It
wants only torch.

What was done for speed: oneDNN's fused LSTM encodes; one product for each decoder layer and step;
the words' share of the first layer's gates, the projection and the loss are outside the loop; the
loop is scripted; Adam is fused; glibc keeps freed memory.
"""

import argparse
import itertools

import benchlib as bl
import torch
import torch.nn.functional as F
import torch_ways as ways
from torch import Tensor, nn

BATCH, LENGTH, SRC_VOCAB, TGT_VOCAB, BOS, EOS = 64, 16, 6000, 7859, 2, 3


class Decoder(nn.Module):
    """Layers with input feeding, and attention with the "general" score."""

    def __init__(self, layers: int, size: int):
        super().__init__()
        self.words = nn.Linear(size, 4 * size)
        self.cells = nn.ModuleList([nn.Linear(2 * size, 4 * size) for _ in range(layers)])
        self.key = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(2 * size, size, bias=False)

    def forward(self, words: Tensor, h0: Tensor, c0: Tensor, memory: Tensor) -> Tensor:
        """Words [T, B, E], states [layers, B, H], memory [B, S, H] -> h~ [T, B, H]."""
        keys = self.key(memory).transpose(1, 2)
        gates = self.words(words)
        h, c = list(h0.unbind(0)), list(c0.unbind(0))
        feed = torch.zeros_like(h[0])
        outputs: list[Tensor] = []
        for word in gates.unbind(0):
            x = feed
            for n, cell in enumerate(self.cells):
                total = cell(torch.cat([x, h[n]], 1))
                if n == 0:
                    total = total + word
                i, f, g, o = total.chunk(4, 1)
                c[n] = torch.sigmoid(f) * c[n] + torch.sigmoid(i) * torch.tanh(g)
                h[n] = torch.sigmoid(o) * torch.tanh(c[n])
                x = h[n]
            weights = torch.softmax(torch.bmm(x.unsqueeze(1), keys), 2)
            context = torch.bmm(weights, memory).squeeze(1)
            feed = torch.tanh(self.out(torch.cat([context, x], 1)))
            outputs.append(feed)
        return torch.stack(outputs)


class Model(nn.Module):
    """Encoder, decoder and projection."""

    def __init__(self, layers: int, size: int, script: bool):
        super().__init__()
        self.source = nn.Embedding(SRC_VOCAB, size)
        self.target = nn.Embedding(TGT_VOCAB, size)
        self.encoder = nn.LSTM(size, size, layers)
        decoder = Decoder(layers, size)
        self.decoder = torch.jit.script(decoder) if script else decoder
        self.project = nn.Linear(size, TGT_VOCAB)

    def forward(self, src: Tensor, words: Tensor) -> Tensor:
        """Reads ids [S, B] and [T, B] -> logits [T * B, V]."""
        outputs, (h, c) = self.encoder(self.source(src))
        memory = outputs.transpose(0, 1).contiguous()
        hidden = self.decoder(self.target(words), h, c, memory)
        return self.project(hidden.flatten(0, 1))


def build(way: str):
    """Makes a step; the teacher and the decoder's loop are compiled, scripted or captured with it."""
    torch.manual_seed(0)
    student, teacher = Model(1, 128, way == "script"), Model(2, 512, way == "script").eval()
    if way.startswith("compile"):
        for model in student, teacher:
            model.decoder = torch.compile(model.decoder, dynamic=False)
    optimizer = torch.optim.Adam(
        student.parameters(), lr=1e-3, fused=True, capturable=way.endswith("graphs")
    )
    src = torch.randint(EOS + 1, SRC_VOCAB, (4, LENGTH, BATCH))
    tgt = torch.randint(EOS + 1, TGT_VOCAB, (4, LENGTH, BATCH))
    tgt[:, -1] = EOS
    words = torch.cat([torch.full((4, 1, BATCH), BOS), tgt[:, :-1]], 1)
    rows = torch.arange(LENGTH * BATCH)

    def run(src: Tensor, words: Tensor, gold: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = torch.softmax(teacher(src, words), 1).mul_(0.5)
            wanted[rows, gold] += 0.5
        optimizer.zero_grad(set_to_none=True)
        # Both losses are one cross-entropy to the mixture of their targets.
        loss = F.cross_entropy(student(src, words), wanted, reduction="sum") / BATCH
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0, foreach=True)
        optimizer.step()
        return loss

    batches = [(src[n], words[n], tgt[n].flatten()) for n in range(4)]
    first = run(*batches[0]).item()
    if way.endswith("graphs"):
        run = ways.captured(run, batches[0])
    turn = itertools.cycle(batches)
    return (lambda: run(*next(turn))), {"first_loss": round(first, 5)}


def main() -> None:
    """Measures and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="per repeat; 0: 1.2 seconds of them")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; there products in TF32")
    ways.add_arguments(parser)
    bl.turns(parser)
    parser.set_defaults(mode="kd", model="student", batch=BATCH, beam=None, malloc="tuned", out="")
    parser.set_defaults(impl="script")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
    bl.keep_freed_memory()
    step, facts = ways.chosen(args, build, [way for way in ways.WAYS if way != "freeze"])
    for rates, circumstances in bl.measure(step, args, wait=ways.waiting(args.device)):
        bl.report("pytorch", torch.__version__, args, rates, facts | circumstances)


if __name__ == "__main__":
    main()
