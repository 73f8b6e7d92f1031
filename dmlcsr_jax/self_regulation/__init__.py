"""Cyclical self-regulation: the averaged teacher and its soft targets (arXiv 2203.14448, 3.4).

| symbol | shape | meaning |
|---|---|---|
| m | scalar | number of averages made so far |
| t, s | trees | parameters of teacher and student |
| z | [..., C] | the teacher's logits |
| y | [...] | label |
| q | [..., C] | soft target |

    t = m/(m+1) t + 1/(m+1) s                           at a cycle's end (`teacher`)
    q = m/(m+1) softmax(z) + 1/(m+1) one_hot(y)         from then on (`soft_targets`)
    loss = KL(q || softmax(logits))                     mean over valid pixels (`distillation`)
"""
