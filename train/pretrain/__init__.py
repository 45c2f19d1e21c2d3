"""Classical pretraining, what task-oriented transfer is compared with (paper section 3.1, A.4).

pretrain     the verb: `--method` chooses among the others, which have a config each
supervised   IN-Pretrain: labels of another dataset
dino         DINO-Pretrain: self-distillation of images alone; dino_config its options, dino_views its crops, dino_model
             encoder and projection head, dino_loss loss, centre and temperatures, dino_signs whether it collapses
clip         CLIP-Pretrain: images with captions; clip_pairs its data, clip_model its two towers, clip_losses losses,
             clip_training what it shares with clip_affinity, whose towers learn a pair's affinities from two stores
             that affinity_pairs joins
"""
