#!/bin/sh
printf '#!/bin/sh\n' >/job/a.out
