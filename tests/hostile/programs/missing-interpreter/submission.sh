#!/bin/sh
printf '#!/no/such\n' >/job/a.out; chmod 755 /job/a.out
