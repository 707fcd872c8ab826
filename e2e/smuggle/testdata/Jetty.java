import java.io.*;
import java.util.*;
import javax.servlet.http.*;
import org.eclipse.jetty.server.*;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.util.thread.QueuedThreadPool;

/** Says on its standard output what Jetty sees. */
class Main {
	static String list(Enumeration<String> values) {
		StringJoiner joined = new StringJoiner(",", "[", "]");
		for (String value : Collections.list(values)) joined.add(quote(value));
		return joined.toString();
	}

	static String quote(String text) {
		StringBuilder quoted = new StringBuilder("\"");
		for (char c : text.toCharArray())
			quoted.append(c < ' ' || c > '~' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
		return quoted.append('"').toString();
	}

	public static void main(String[] args) throws Exception {
		Server server = new Server(new QueuedThreadPool(16));
		HttpConfiguration configuration = new HttpConfiguration();
		configuration.setRequestHeaderSize(131072);
		ServerConnector connector = new ServerConnector(server, 1, 1, new HttpConnectionFactory(configuration));
		connector.setHost("127.0.0.1");
		connector.setPort(Integer.parseInt(args[0]));
		connector.setIdleTimeout(300000);
		server.addConnector(connector);
		server.setHandler(new AbstractHandler() {
			@Override
			public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response) throws IOException {
				base.setHandled(true);
				int length = request.getInputStream().readAllBytes().length;
				String sight = String.format("{\"method\":%s,\"target\":%s,\"exchange\":%s,\"key\":%s,\"length\":%d}", quote(request.getMethod()),
					quote(base.getHttpURI().getPathQuery()), list(request.getHeaders("X-Exchange")), list(request.getHeaders("X-Api-Key")), length);
				synchronized (System.out) {
					System.out.println(sight);
					System.out.flush();
				}
				response.setHeader("X-Seen", String.join(",", Collections.list(request.getHeaders("X-Exchange"))));
				response.getOutputStream().write("seen\n".getBytes());
			}
		});
		server.start();
		server.join();
	}
}
