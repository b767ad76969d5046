"""`pangu-rl pretrain`: rows and a plan of packs -> **a stage of pre-training** -> what the next one starts from."""
