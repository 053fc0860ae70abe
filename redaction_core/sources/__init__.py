"""Where the images of a data set come from: URL lists, folders of files, archives.

A source plans its inputs on the driver and reads them on the workers.

source    what a source is, and what it gives
urls      a list of URLs
fetch_loop  fetching for many threads
row_index   rows with their ids, sorted on disk
files     a folder or a prefix
archived  a tar or zip file, or CIFAR-10
"""

from redaction_core.sources.source import Content, Details, Reader, Source

__all__ = ["Content", "Details", "Reader", "Source"]
