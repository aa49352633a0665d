"""One convolution or linear layer: what is known of it, its weights fitted, others in its place."""
