from tests.data.toy import data, data_dir, toy_module  # noqa: F401
