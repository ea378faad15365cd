"""One module a kind of foreign data; paligax.data.ingest names them."""
