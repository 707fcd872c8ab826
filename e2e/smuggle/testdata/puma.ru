# Says on its standard output what it sees.
require "json"
$stdout.sync = true
run lambda { |env|
  length = env["rack.input"].read.bytesize
  exchange = [env["HTTP_X_EXCHANGE"]].compact
  $stdout.puts({ method: env["REQUEST_METHOD"], target: env["REQUEST_URI"], exchange: exchange, key: [env["HTTP_X_API_KEY"]].compact, length: length }.to_json)
  [200, { "X-Seen" => exchange.join(","), "Content-Length" => "5" }, ["seen\n"]]
}
