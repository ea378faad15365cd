"""What is trained on: one file a task family; `pretrain` joins the eight."""
