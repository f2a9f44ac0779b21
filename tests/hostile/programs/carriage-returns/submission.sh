#!/bin/sh
printf '#!/bin/sh\r\necho hi\r\n' >/job/a.out; chmod 755 /job/a.out
