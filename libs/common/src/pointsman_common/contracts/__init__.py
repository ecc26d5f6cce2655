"""Generated from libs/common/proto; never edited."""
