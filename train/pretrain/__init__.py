"""Classical pretraining, what task-oriented transfer is compared with (paper section 3.1, A.4).

pretrain     the verb: `--method` chooses among the others, which have a config each
supervised   IN-Pretrain: labels of another dataset
"""
