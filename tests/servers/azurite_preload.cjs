// Every ten minutes Azurite looks for data that nothing needs any more, and after thousands of tests it answers nobody for
// minutes while it does. Its data are gone when it ends, so once a day will do.
const path = require("node:path");

require(path.join(path.dirname(process.argv[1]), "blob/utils/constants")).DEFAULT_GC_INTERVAL_MS = 24 * 60 * 60 * 1000;
